"""A client for programs without an event loop, on every adapter: the methods of ``App`` and ``Handle``, blocking.

    with app.connect_sync() as client:
        client.start("order", {"amount": 40}, run_id="o-1")
        print(client.result("o-1", timeout_s=30))

An event loop runs in a thread of its own from the beginning of the block to its end; each call hands a coroutine to it
and waits. So a client may be used from several threads at once, and Ctrl-C ends a call as it does elsewhere. Inputs of
many starts are read in the caller's thread, whose connection to a database they may come from.
"""

from __future__ import annotations

__all__ = ["SyncClient", "SyncHandle"]

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from headrace.errors import DefinitionError, StoreError

if TYPE_CHECKING:
    from headrace.adapter import Answer, Client, RunResult
    from headrace.app import App
    from headrace.builder import Flow

_T = TypeVar("_T")

# Inputs of many starts that are handed to the loop at once, and how often that is done ahead of the starts themselves.
_INPUTS_AT_ONCE: Final = 500
_HANDED_AHEAD: Final = 2


class _LoopThread:
    """An event loop in a thread of its own, which holds a connection of *app*."""

    def __init__(self, app: App, url: str | None, settings: Mapping[str, Any]) -> None:
        self._connected: concurrent.futures.Future[Client] = concurrent.futures.Future()
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._hold(app, url, settings)), name="headrace-client", daemon=True
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None

    def open(self) -> Client:
        """Connect; raises whatever that raises."""
        self._thread.start()
        return self._connected.result()

    def close(self) -> None:
        """Disconnect; raises whatever that raises."""
        loop, leave = self._loop, self._leave
        assert loop is not None
        assert leave is not None
        self._loop = None
        loop.call_soon_threadsafe(leave.set)
        self._thread.join()
        self._ended.result()

    async def _hold(self, app: App, url: str | None, settings: Mapping[str, Any]) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with app.connect(url, **settings) as client:
                self._connected.set_result(client)
                await self._leave.wait()
        except BaseException as error:  # noqa: BLE001 (raised in the thread that opens or closes)
            (self._ended if self._connected.done() else self._connected).set_exception(error)
        else:
            self._ended.set_result(None)

    def ask(self, question: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What the coroutine gives that *question* makes. Interrupting this cancels it."""
        loop = self._loop
        if loop is None:
            raise DefinitionError("this client was closed: use it within its 'with app.connect_sync():' block")
        answered = asyncio.run_coroutine_threadsafe(question(), loop)
        try:
            return answered.result()
        except concurrent.futures.CancelledError:
            raise StoreError("this client was closed while it was asked something: ask within its block") from None
        except BaseException:
            answered.cancel()
            raise


class SyncClient:
    """Reaches the runs of an app from a program without an event loop; get one from ``App.connect_sync``."""

    def __init__(self, app: App, thread: _LoopThread, client: Client) -> None:
        self._app = app
        self._thread = thread
        self._client = client

    @classmethod
    @contextmanager
    def connected(cls, app: App, url: str | None, settings: Mapping[str, Any]) -> Iterator[SyncClient]:
        """A client for one block. *app* is connected in another thread, so nobody else may use it meanwhile."""
        thread = _LoopThread(app, url, settings)
        client = thread.open()
        try:
            yield cls(app, thread, client)
        finally:
            thread.close()

    def start(
        self,
        flow: str | Flow,
        input: Any = None,  # noqa: A002
        *,
        run_id: str | None = None,
        version: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> SyncHandle:
        """Start a run; durable when this returns. See :meth:`headrace.app.App.start`."""
        handle = self._thread.ask(lambda: self._app.start(flow, input, run_id=run_id, version=version, context=context))
        return SyncHandle(self, handle.run_id, handle.answer)

    def start_many(
        self,
        flow: str | Flow,
        inputs: Iterable[Any],
        *,
        run_id: Callable[[Any], str] | None = None,
        version: str | None = None,
        context: Mapping[str, Any] | None = None,
        outstanding_max: int = 10_000,
    ) -> int:
        """Start a run for each input; all are durable when this returns. See :meth:`headrace.app.App.start_many`."""
        handed: asyncio.Queue[list[Any] | BaseException | None] = asyncio.Queue(_HANDED_AHEAD)

        async def begin() -> asyncio.Task[int]:
            values = _values_of(handed)
            return asyncio.create_task(
                self._app.start_many(
                    flow, values, run_id=run_id, version=version, context=context, outstanding_max=outstanding_max
                )
            )

        starting = self._thread.ask(begin)

        async def hand(chunk: list[Any] | BaseException | None) -> bool:
            putting = asyncio.create_task(handed.put(chunk))
            try:
                # Where starting has failed nobody takes anything any more.
                await asyncio.wait({putting, starting}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                putting.cancel()
            return not starting.done()

        async def end() -> int:
            return await starting

        try:
            iterator = iter(inputs)
            while chunk := list(islice(iterator, _INPUTS_AT_ONCE)):
                is_taken: bool = self._thread.ask(lambda: hand(chunk))
                if not is_taken:
                    break
            self._thread.ask(lambda: hand(None))
        except Exception as error:  # noqa: BLE001 (it comes out of the starts, as it does without threads)
            failure = error
            self._thread.ask(lambda: hand(failure))
        except BaseException:
            # An interrupt is the caller's, and must not reach the loop; what was read is sent all the same.
            self._thread.ask(lambda: hand(None))
            raise
        return self._thread.ask(end)

    def handle(self, run_id: str) -> SyncHandle:
        """A handle of a run that somebody started, known or not."""
        return SyncHandle(self, self._app.handle(run_id).run_id)

    def result(self, run_id: str, timeout_s: float | None = None) -> RunResult | None:
        """The final result; None when *timeout_s* is over before there is one (0 asks without waiting)."""
        return self._thread.ask(lambda: self._app.handle(run_id).result(timeout_s))

    def status(self, run_id: str) -> dict[str, Any] | None:
        """The run as people look at it; None where nothing is known of it."""
        return self._thread.ask(lambda: self._client.status(run_id))

    def runs(
        self, *, states: frozenset[str] | None = None, flow: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Runs that are known. See :meth:`headrace.adapter.Client.runs`."""
        return self._thread.ask(lambda: self._client.runs(states=states, flow=flow, limit=limit))

    def events(self, run_id: str, *, follow: bool = False) -> Iterator[dict[str, Any]]:
        """The history of a run in sequence; with *follow* until it ends."""
        events = self._client.events(run_id, follow=follow)

        async def following() -> dict[str, Any] | None:
            return await anext(events, None)

        async def close() -> None:
            aclose = getattr(events, "aclose", None)
            if aclose is not None:
                await aclose()

        try:
            while (event := self._thread.ask(following)) is not None:
                yield event
        finally:
            self._thread.ask(close)

    def tell(self, verb: Callable[[App], Coroutine[Any, Any, _T]]) -> _T:
        """What a coroutine gives that uses the app, such as ``lambda app: app.handle("r").cancel()``."""
        return self._thread.ask(lambda: verb(self._app))


class SyncHandle:
    """One run, to be asked and told things within the block of its client. See :class:`headrace.app.Handle`."""

    __slots__ = ("_client", "answer", "run_id")

    def __init__(self, client: SyncClient, run_id: str, answer: Answer | None = None) -> None:
        self._client = client
        self.run_id = run_id
        self.answer = answer
        """How the start was taken, where this handle comes from one."""

    def result(self, timeout_s: float | None = None) -> RunResult | None:
        """The final result; None when *timeout_s* is over before there is one."""
        return self._client.result(self.run_id, timeout_s)

    def status(self) -> dict[str, Any] | None:
        """The run as people look at it; None where nothing is known of it."""
        return self._client.status(self.run_id)

    def events(self, follow: bool = False) -> Iterator[dict[str, Any]]:
        """What happened so far, in sequence; with *follow* also what happens, until the run ends."""
        return self._client.events(self.run_id, follow=follow)

    def cancel(self, reason: str = "") -> Answer:
        """End the run as cancelled."""
        return self._client.tell(lambda app: app.handle(self.run_id).cancel(reason))

    def pause(self, reason: str = "") -> Answer:
        """Start nothing new."""
        return self._client.tell(lambda app: app.handle(self.run_id).pause(reason))

    def unpause(self) -> Answer:
        """Go on after a pause."""
        return self._client.tell(lambda app: app.handle(self.run_id).unpause())

    def resume(self, node: str, action: str | None = None, output: Any = None, key: str | None = None) -> Answer:
        """Answer the wait *node* with *output*; *action* selects the edges. A second one with *key* changes nothing."""
        return self._client.tell(lambda app: app.handle(self.run_id).resume(node, action, output, key))

    def signal(self, event: str, payload: Any = None) -> Answer:
        """Tell the run and its children that *event* happened."""
        return self._client.tell(lambda app: app.handle(self.run_id).signal(event, payload))

    def __repr__(self) -> str:
        return f"<SyncHandle of run {self.run_id!r}>"


async def _values_of(handed: asyncio.Queue[list[Any] | BaseException | None]) -> AsyncIterator[Any]:
    while (chunk := await handed.get()) is not None:
        if isinstance(chunk, BaseException):
            raise chunk
        for value in chunk:
            yield value
