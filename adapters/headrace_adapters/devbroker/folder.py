"""The data folder of a broker: whose it is, and how many nodes have their data in it.

<folder>/LOCK.broker      held by the process that runs it; the number in it is for the message that the next one gets
<folder>/cluster.json     the cluster's id and the number of its nodes
<folder>/node-N/          settings, console and data of node N
"""

from __future__ import annotations

__all__ = ["DataFolder"]

import base64
import fcntl
import os
import uuid
from pathlib import Path

import orjson

from headrace.errors import DefinitionError, StoreError, StoreLocked

LOCK, CLUSTER = "LOCK.broker", "cluster.json"


class DataFolder:
    """A folder that this process holds until :meth:`release`; made where it is not there yet.

    Raises :class:`StoreLocked` while a broker runs on it, :class:`DefinitionError` when its data is of another number
    of nodes, and :class:`StoreError` when it is no folder of a broker.
    """

    def __init__(self, path: Path, nodes: int) -> None:
        self.path = path.absolute()
        self._descriptor = -1
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = {entry.name for entry in self.path.iterdir()}
            if CLUSTER not in names and names - {LOCK, f"{CLUSTER}.new"}:
                raise StoreError(f"{path} holds other files, and no data of a broker; give an empty or a new folder")
            self._hold()
            self.cluster_id = self._cluster_id(nodes)
        except OSError as error:
            self.release()
            raise StoreError(f"{path} cannot hold a broker's data ({error}); repair that, or give another folder") from error
        except BaseException:
            self.release()
            raise

    def node(self, number: int) -> Path:
        """The folder of one node."""
        return self.path / f"node-{number}"

    def release(self) -> None:
        """Let the folder go; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _hold(self) -> None:
        self._descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            raise StoreLocked(
                f"a broker runs on {self.path} already (process {holder or 'unknown'}); use that one, stop it, "
                "or give another folder"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _cluster_id(self, nodes: int) -> str:
        file = self.path / CLUSTER
        if file.exists():
            try:
                found = orjson.loads(file.read_bytes())
                cluster_id, nodes_found = str(found["clusterId"]), int(found["nodes"])
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                raise StoreError(f"{file} cannot be read; remove {self.path}, or give another folder") from None
            if nodes_found != nodes:
                raise DefinitionError(
                    f"the data in {self.path} is of a broker of {nodes_found} nodes, not of {nodes}; "
                    "start it with as many, or give another folder"
                )
            return cluster_id
        cluster_id = _drawn_id()
        new = file.with_name(f"{CLUSTER}.new")
        new.write_bytes(orjson.dumps({"clusterId": cluster_id, "nodes": nodes}, option=orjson.OPT_APPEND_NEWLINE))
        new.replace(file)
        return cluster_id


def _drawn_id() -> str:
    """A uuid as Kafka writes it: 22 characters; a hyphen in front would look like an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
