"""An app: flows, the functions behind them, and where their runs are carried.

An :class:`App` is what programs, workers and the command line have in common. Its name is also the prefix of its
topics. Where the work is carried is a URL (``memory:``, ``embedded:./data``, ``kafka://host:9092``); the adapter is
found by the URL's scheme among the entry points of group ``headrace.adapters``, so the engine imports none. An entry
point is a callable ``open_adapter(app, url, settings) -> Adapter``; *settings* are those that somebody has set, by name.

What is in an app is looked at when it is connected, so flows may be added first and written afterwards. A process that
only starts runs and asks for results needs the name alone: ``App("orders")``.
"""

from __future__ import annotations

__all__ = ["App", "Handle", "run_in_memory"]

import asyncio
import os
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Final, cast, overload

from headrace import commands as c
from headrace.adapter import Adapter, Answer, Client, RunResult
from headrace.blueprint import Blueprint, fingerprint, from_json
from headrace.builder import Flow
from headrace.bulk import each
from headrace.connection import Connection, checked_id
from headrace.errors import CommandRefused, DefinitionError, StoreError
from headrace.limits import Limits
from headrace.registry import Registry
from headrace.sync import SyncClient

DEFAULT_URL: Final = "embedded:./data"

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class App:
    """Flows under one name, to be carried together.

    *dependencies* are what nodes find in ``ctx.dependencies``: clients, pools, settings, by name.
    """

    def __init__(self, name: str, dependencies: Mapping[str, Any] | None = None) -> None:
        """Raises :class:`~headrace.errors.DefinitionError` when *name* cannot begin the names of topics."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(
                f"an app cannot be called {name!r}: its name begins the names of its topics, so it has 1 to 200 "
                "letters, digits, dots, underscores and hyphens"
            )
        self.name = name
        self.dependencies: Mapping[str, Any] = dict(dependencies or {})
        self._added: list[Flow | Blueprint] = []
        self._own = Registry()
        self._clients: list[Connection] = []

    # What is in it.

    def add(
        self,
        flow: Flow | Blueprint | Mapping[str, Any],
        implementations: Mapping[str, Callable[..., Any]] | Registry | None = None,
    ) -> App:
        """Add a flow, with its functions and its subflows, or a blueprint (as such or in its JSON form).

        The newest version of a flow is the one that was added last. Gives the app back, for chains. Raises
        :class:`~headrace.errors.DefinitionError` when *flow* has not the shape of a blueprint, or when a key of
        *implementations* means something else already.
        """
        if isinstance(implementations, Registry):
            self._own.merge(implementations)
        else:
            for key, function in (implementations or {}).items():
                self._own.add(key, function)
        if isinstance(flow, Mapping):
            flow = from_json(flow)
        if not isinstance(flow, Flow | Blueprint):
            raise DefinitionError(f"add takes a Flow, a Blueprint or its JSON form, not {type(flow).__name__}")
        if not any(flow is known for known in self._added):
            self._added.append(flow)
        return self

    def register(self, key: str, function: Callable[..., Any], *, cpu_bound: bool = False) -> App:
        """Say what *key* stands for in the ``uses`` of blueprints; see :meth:`headrace.registry.Registry.add`."""
        self._own.add(key, function, cpu_bound=cpu_bound)
        return self

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Every flow that was added as such, and those below them, each once."""
        found: dict[int, Flow] = {}
        for added in self._added:
            if isinstance(added, Flow):
                found |= {id(flow): flow for flow in added.family()}
        return tuple(found.values())

    @property
    def registry(self) -> Registry:
        """What the keys of all flows stand for. Raises :class:`~headrace.errors.DefinitionError` where two differ."""
        registry = Registry()
        registry.merge(self._own)
        for flow in self.flows:
            registry.merge(flow.registry)
        return registry

    @property
    def blueprints(self) -> tuple[Blueprint, ...]:
        """Every version of every flow, subflows included, as it is now; the newest one of a flow is the last.

        Raises :class:`~headrace.errors.DefinitionError` where two that differ have the same id and version.
        """
        found: dict[tuple[str, str], Blueprint] = {}
        for added in self._added:
            # A flow goes behind its subflows, though a version that is added again keeps its place.
            family = [added] if isinstance(added, Blueprint) else [it.to_blueprint() for it in reversed(added.family())]
            for blueprint in family:
                known = found.setdefault((blueprint.id, blueprint.version), blueprint)
                if known is not blueprint and fingerprint(known) != fingerprint(blueprint):
                    raise DefinitionError(
                        f"app {self.name!r} has two different flows {blueprint.id!r} of version {blueprint.version!r}: "
                        "give one of them another id, or the newer one another version"
                    )
        return tuple(found.values())

    # Where it is carried.

    def open(self, url: str | None = None, settings: Mapping[str, Any] = _NONE) -> Adapter:
        """The adapter for *url*; what is not given comes from the environment and the config file.

        Raises :class:`~headrace.errors.DefinitionError` for a scheme that no installed adapter has.
        """
        url, settings = _resolve(url, settings)
        scheme = _SCHEME.match(url)
        installed = {point.name: point for point in entry_points(group="headrace.adapters")}
        if scheme is None or scheme[1].lower() not in installed:
            named = ", ".join(f"{name}:" for name in sorted(installed)) or "none at all"
            what = f"the scheme {scheme[1] + ':'!r}" if scheme else f"{url!r}, which is no URL,"
            raise DefinitionError(
                f"no adapter is installed for {what} and so nothing can carry the work; installed are: {named}"
            )
        return cast("Adapter", installed[scheme[1].lower()].load()(self, url, settings))

    @asynccontextmanager
    async def connect(self, url: str | None = None, **settings: Any) -> AsyncIterator[Client]:
        """Reach the running worker, or what it left: within this, :meth:`start` and handles can be used.

        Without *url* it is ``HEADRACE_URL``, the config file's, or ``embedded:./data``.
        """
        url, resolved = _resolve(url, settings)
        client = await self.open(url, resolved).client()
        connection = self._enter(client, resolved)
        try:
            yield client
        finally:
            self._clients.remove(connection)
            await client.close()

    @contextmanager
    def connect_sync(self, url: str | None = None, **settings: Any) -> Iterator[SyncClient]:
        """As :meth:`connect`, for a program without an event loop: everything is asked of the client that this gives."""
        # It is connected in another thread, which is no business of those who use this app in theirs.
        apart = copy(self)
        apart._clients = []
        with SyncClient.connected(apart, url, settings) as client:
            yield client

    @asynccontextmanager
    async def work(self, url: str | None = None, *, grace_s: float = 10.0, **settings: Any) -> AsyncIterator[Client]:
        """Work in this process as long as the block lasts, then stop within *grace_s*; also as :meth:`connect`.

        What the worker dies of, if it does, is raised in the block.
        """
        url, resolved = _resolve(url, settings)
        worker = self.open(url, resolved).worker()
        client = await worker.start()
        connection = self._enter(client, resolved)
        block = asyncio.current_task()
        assert block is not None
        watch = asyncio.create_task(worker.failed())

        # A block that awaits a result would wait for ever when nobody works any more.
        def interrupt(ended: asyncio.Task[None]) -> None:
            if _error_of(ended) is not None:
                block.cancel()

        watch.add_done_callback(interrupt)
        try:
            yield client
        except asyncio.CancelledError:
            error = _error_of(watch)
            if error is None:
                raise
            block.uncancel()
            raise error from None
        finally:
            # From here on a worker that dies is told of by its stop, which must not be interrupted.
            watch.remove_done_callback(interrupt)
            watch.cancel()
            self._clients.remove(connection)
            try:
                # Whoever waits at this client still gets what the worker finishes in its grace.
                await worker.stop(grace_s)
            finally:
                await client.close()

    def _enter(self, client: Client, settings: Mapping[str, Any]) -> Connection:
        connection = Connection(self, client, settings.get("value_bytes_max") or Limits().value_bytes_max)
        self._clients.append(connection)
        return connection

    def _connection(self) -> Connection:
        if not self._clients:
            raise DefinitionError(
                f"app {self.name!r} is not connected: do this within 'async with app.connect():', or within "
                "'async with app.work():', which works in this process too"
            )
        return self._clients[-1]

    @property
    def client(self) -> Client:
        """The client of the innermost :meth:`connect` or :meth:`work`."""
        return self._connection().client

    # What is done with it.

    async def start(
        self,
        flow: str | Flow,
        input: Any = None,  # noqa: A002
        *,
        run_id: str | None = None,
        version: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Handle:
        """Start a run of *flow* (or of the newest version, without *version*); durable when this returns.

        A *run_id* that is known already changes nothing: the handle is that of the run which has it, and its ``answer``
        says so. Raises :class:`~headrace.errors.BlueprintInvalid` where the flow of this app cannot run,
        :class:`~headrace.errors.DefinitionError` where the app has flows and not this one,
        :class:`~headrace.errors.ValueRefused` for an input, a context or an id that cannot be used, and
        :class:`~headrace.errors.CommandRefused` when the worker refuses.
        """
        connection = self._connection()
        command = connection.start(flow, version, context)(input, run_id)
        answer = await connection.client.submit(command)
        if answer.outcome == "refused":
            raise CommandRefused(f"run {command.run_id!r} was not started: {answer.reason}")
        return Handle(self, command.run_id, answer)

    async def start_many(
        self,
        flow: str | Flow,
        inputs: Iterable[Any] | AsyncIterable[Any],
        *,
        run_id: Callable[[Any], str] | None = None,
        version: str | None = None,
        context: Mapping[str, Any] | None = None,
        outstanding_max: int = 10_000,
    ) -> int:
        """Start a run of *flow* for each input; gives how many, once all of them are durable.

        *run_id* tells the id for an input, which makes it harmless to send all of them again; without it every run is a
        new one. *inputs* may be a generator without end: it is read no faster than the starts are taken. Raises as
        :meth:`start` does, and :class:`~headrace.errors.StartsFailed` where some are not known to be durable; see
        :meth:`headrace.adapter.Client.start_many`.
        """
        connection = self._connection()
        start = connection.start(flow, version, context)
        starts = (start(value, None if run_id is None else run_id(value)) async for value in each(inputs))
        return await connection.client.start_many(starts, outstanding_max=outstanding_max)

    def handle(self, run_id: str) -> Handle:
        """A handle of a run that somebody started, known or not."""
        return Handle(self, checked_id("the id of a run", run_id))

    def __repr__(self) -> str:
        return f"<App {self.name!r}, {len(self._added)} flows>"


class Handle:
    """One run, to be asked and told things while its app is connected.

    Commands give the :class:`~headrace.adapter.Answer` that says how they were taken, once that is durable; one that
    does not fit the run's state changes nothing, and its answer says why.
    """

    __slots__ = ("_app", "answer", "run_id")

    def __init__(self, app: App, run_id: str, answer: Answer | None = None) -> None:
        self._app = app
        self.run_id = run_id
        self.answer = answer
        """How the start was taken, where this handle comes from one: ``applied``, ``duplicate`` or ``accepted``."""

    @overload
    async def result(self, timeout_s: None = None) -> RunResult: ...
    @overload
    async def result(self, timeout_s: float) -> RunResult | None: ...
    async def result(self, timeout_s: float | None = None) -> RunResult | None:
        """The final result; None when *timeout_s* is over before there is one (0 asks without waiting).

        Raises :class:`~headrace.errors.StoreError` where it would wait for ever, because nobody works.
        """
        result = await self._app.client.result(self.run_id, timeout_s)
        if result is None and timeout_s is None:
            raise StoreError(f"run {self.run_id!r} has not ended, and nobody works on it: start a worker and ask again")
        return result

    async def status(self) -> dict[str, Any] | None:
        """The run as people look at it (see ``headrace.view``); None where nothing is known of it."""
        return await self._app.client.status(self.run_id)

    def events(self, follow: bool = False) -> AsyncIterator[dict[str, Any]]:
        """What happened so far, in sequence; with *follow* also what happens, until the run ends."""
        return self._app.client.events(self.run_id, follow=follow)

    async def cancel(self, reason: str = "") -> Answer:
        """End the run as cancelled."""
        return await self._app.client.submit(c.Cancel(self.run_id, reason))

    async def pause(self, reason: str = "") -> Answer:
        """Start nothing new."""
        return await self._app.client.submit(c.Pause(self.run_id, reason))

    async def unpause(self) -> Answer:
        """Go on after a pause."""
        return await self._app.client.submit(c.Unpause(self.run_id))

    async def resume(self, node: str, action: str | None = None, output: Any = None, key: str | None = None) -> Answer:
        """Answer the wait *node* (by its path, where it is in a child run) with *output*; *action* selects the edges.

        A second resume with the same idempotency *key* changes nothing.
        """
        connection = self._app._connection()
        encoded = connection.encode(output, "the output of a resume")
        return await connection.client.submit(c.Resume(self.run_id, node, action, encoded, key))

    async def signal(self, event: str, payload: Any = None) -> Answer:
        """Tell the run and its children that *event* happened; kept for the first wait that asks, where none does."""
        connection = self._app._connection()
        encoded = connection.encode(payload, "the payload of a signal")
        return await connection.client.submit(c.Signal(self.run_id, event, encoded))

    def __repr__(self) -> str:
        return f"<Handle of run {self.run_id!r}>"


async def run_in_memory(
    flow: Flow,
    input: Any = None,  # noqa: A002
    *,
    context: Mapping[str, Any] | None = None,
    dependencies: Mapping[str, Any] | None = None,
    run_id: str | None = None,
    timeout_s: float | None = None,
) -> RunResult:
    """Run *flow* in memory, to its end; the result's ``unwrap()`` gives the output or raises what went wrong.

    A run that takes longer than *timeout_s* is cancelled. Raises :class:`~headrace.errors.DefinitionError` where the
    run waits and nobody could ever answer, since nobody else knows of it.
    """
    app = App("memory", dependencies).add(flow)
    async with app.work("memory:"):
        handle = await app.start(flow.id, input, run_id=run_id, context=context)
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while True:
            left_s = None if deadline is None else deadline - asyncio.get_running_loop().time()
            if left_s is not None and left_s <= 0:
                await handle.cancel(f"the run took longer than {timeout_s} s")
                return await handle.result()
            result = await handle.result(min(_LOOK_S, left_s or _LOOK_S))
            if result is not None:
                return result
            _refuse_to_wait(flow, await handle.status())


# How often a run in memory is looked at whether it waits for somebody who cannot come.
_LOOK_S: Final = 0.25


def _refuse_to_wait(flow: Flow, status: Mapping[str, Any] | None) -> None:
    if status is None or status["status"] != "awaiting" or any("due" in node for node in status["nodes"]):
        return
    # A child's timeouts are its own, so of a run with children it is not known that nothing will happen.
    if not any(node["state"] == "child" for node in status["nodes"]):
        raise DefinitionError(
            f"flow {flow.id!r} waits at {', '.join(status['awaiting'])} and nobody can answer a run in memory: give "
            "the wait a timeout, or use 'async with app.work(): handle = await app.start(...)' and its resume or signal"
        )


def _resolve(url: str | None, settings: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """URL and settings from the argument, the environment and the config file, in this order.

    Who reads config files is found by entry point too, because the engine reads none.
    """
    for point in entry_points(group="headrace.settings"):
        return cast("tuple[str, Mapping[str, Any]]", point.load()(url, settings))
    return url or os.environ.get("HEADRACE_URL") or DEFAULT_URL, settings


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
