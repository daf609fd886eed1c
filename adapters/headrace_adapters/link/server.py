"""The worker's side of a link: lets other processes of this machine reach the worker of a folder."""

from __future__ import annotations

__all__ = ["LinkServer"]

import asyncio
import os
import weakref
from pathlib import Path

from headrace.adapter import Client
from headrace_adapters.link.address import BACKLOG_MAX, Place
from headrace_adapters.link.connection import Connection
from headrace_adapters.link.limits import LinkLimits

_serving: weakref.WeakSet[LinkServer] = weakref.WeakSet()


class LinkServer:
    """Serves *client* to whoever may read *folder*'s socket, which is this user only.

    The folder's lock must be held while it serves. *client* stays its owner's and is not closed here.
    """

    def __init__(self, client: Client, folder: Path, *, limits: LinkLimits | None = None) -> None:
        self._client = client
        self._folder = folder
        self._limits = LinkLimits() if limits is None else limits
        self._place: Place | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._is_closed = False

    async def start(self) -> None:
        """Begin to answer; connections are accepted from here on.

        Raises :class:`headrace.errors.StoreLocked` when another living worker answers for this folder, and
        :class:`headrace.errors.StoreError` when the socket or its address cannot be written, with what to do.
        """
        if self._place is not None:
            raise RuntimeError("this server was started already")
        self._place = Place(self._folder)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                self._connect, sock=self._place.socket, backlog=BACKLOG_MAX
            )
        except BaseException:
            self._leave()
            raise
        _serving.add(self)

    async def close(self, grace_s: float = 5.0) -> None:
        """Accept nothing more, answer what is in flight within *grace_s* (seconds), and close all connections.

        A peer whose request is left over is told that the worker stopped. A second call does nothing.
        """
        if self._server is None:
            return
        server, self._server = self._server, None
        self._is_closed = True
        _serving.discard(self)
        if self._place is not None:
            self._place.withdraw()
        server.close()
        self._leave()
        await asyncio.gather(*(connection.stop(grace_s) for connection in list(self._connections)))

    def descriptors(self) -> list[int]:
        """The descriptors of all sockets that are open."""
        listening = [] if self._place is None else [self._place.socket.fileno()]
        return [number for number in (*listening, *(c.fileno() for c in self._connections)) if number >= 0]

    def _connect(self) -> Connection:
        connection = Connection(self._client, self._limits, self._connections.discard)
        self._connections.add(connection)
        if self._is_closed:
            connection.refuse()
        return connection

    def _leave(self) -> None:
        if self._place is not None:
            self._place.leave()
            self._place = None


def _let_go_in_child() -> None:
    """A forked child holds the sockets too; were it to outlive its parent, peers would wait for it in vain.

    The numbers are kept in use, because objects of the child still believe that they own them.
    """
    numbers = [number for server in list(_serving) for number in server.descriptors()]
    if numbers:
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in numbers:
            os.dup2(nowhere, number, inheritable=False)
        os.close(nowhere)


os.register_at_fork(after_in_child=_let_go_in_child)
