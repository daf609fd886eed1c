"""What a node's code gets: its input, the run's context, and the signs of the engine.

Reading is local and never blocks: the owner of a run holds its context, and an :class:`~headrace.execution.Execution`
carries a live view of it. Writing is recorded: a write goes into an overlay that only this attempt sees, and into a
list of operations that the engine records when the attempt succeeds. Every value is encoded at once, so what a node
changes in an object afterwards changes nothing that was recorded.

A context is made for every attempt, so making one must cost next to nothing: whatever is not always needed (decoding,
the overlay, the logger) waits until it is asked for.
"""

from __future__ import annotations

__all__ = ["AsyncContext", "Context"]

import logging
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

from headrace.errors import Cancelled
from headrace.execution import NO_ITEM, Execution, Operation
from headrace.limits import Limits
from headrace.values import Json, check_name, decode, encode

ERROR_KEY = "_error"

_LOGGER = logging.getLogger("headrace.node")
_NO_DEPENDENCIES: Mapping[str, Any] = MappingProxyType({})
_BYTES_MAX = Limits().value_bytes_max


class Context:
    """The one argument of a node function.

    All but :meth:`heartbeat` is for the node's own thread or task; :meth:`heartbeat`, :attr:`cancelled` and
    :meth:`raise_if_cancelled` may be used from any thread that the node starts.
    """

    __slots__ = (
        "_async_context",
        "_input",
        "_log",
        "_on_heartbeat",
        "_operations",
        "_overlay",
        "_params",
        "cancelled",
        "dependencies",
        "execution",
        "progress",
        "value_bytes_max",
    )

    def __init__(
        self,
        execution: Execution,
        dependencies: Mapping[str, Any] = _NO_DEPENDENCIES,
        *,
        value_bytes_max: int = _BYTES_MAX,
        on_heartbeat: Callable[[Json | None], None] | None = None,
    ) -> None:
        """Made by executors. *on_heartbeat* is called at each heartbeat, in the thread that makes it."""
        self.execution = execution
        self.dependencies = dependencies
        """What the worker was given for its nodes: clients, pools, settings, by name."""
        self.cancelled = False
        """Whether the attempt is no longer wanted: it timed out, or its run ended."""
        self.progress: Json | None = None
        """What the last heartbeat that told something told."""
        self.value_bytes_max = value_bytes_max
        """The limit of each value that the node gives, in bytes, encoded."""
        self._on_heartbeat = on_heartbeat
        self._operations: list[Operation] | None = None
        self._overlay: dict[str, Json | None] | None = None

    # What is executed.

    @property
    def input(self) -> Any:
        """The node's input; an own copy, decoded when first asked for."""
        try:
            return self._input
        except AttributeError:
            self._input: Any = decode(self.execution.input)
            return self._input

    @property
    def params(self) -> Any:
        """The node's ``params`` in the blueprint; an own copy, decoded when first asked for."""
        try:
            return self._params
        except AttributeError:
            self._params: Any = decode(self.execution.params)
            return self._params

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.execution.run_id

    @property
    def node_id(self) -> str:
        """The node's id in the blueprint."""
        return self.execution.node_id

    @property
    def item(self) -> int | None:
        """The index of the batch item that this is, counted from 0; None outside a batch."""
        item = self.execution.item
        return None if item == NO_ITEM else item

    @property
    def attempt(self) -> int:
        """Which attempt this is, counted from 1."""
        return self.execution.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every execution of this attempt, also after a crash: for calls that must count once."""
        return self.execution.idempotency_key

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named ``headrace.node`` whose records carry ``run_id`` and ``node_id``."""
        try:
            return self._log
        except AttributeError:
            self._log: _NodeLog = _NodeLog(_LOGGER, {"run_id": self.run_id, "node_id": self.node_id})
            return self._log

    # Cancellation.

    def raise_if_cancelled(self) -> None:
        """Raise :class:`~headrace.errors.Cancelled` when the attempt is no longer wanted."""
        if self.cancelled:
            execution = self.execution
            raise Cancelled(
                f"attempt {execution.attempt} of node {execution.node_id!r} is no longer wanted: it timed out or its "
                "run ended"
            )

    def heartbeat(self, progress: object = None) -> None:
        """Say that the node is alive, and how far it is: any JSON, for whoever asks for the run's status.

        A point of cancellation for long code that is not ``async``. Raises :class:`~headrace.errors.Cancelled` when
        the attempt is no longer wanted, and :class:`~headrace.errors.ValueRefused` when *progress* is not JSON.
        """
        self.raise_if_cancelled()
        if progress is not None:
            self.progress = encode(progress, bytes_max=self.value_bytes_max, what="progress")
        if self._on_heartbeat is not None:
            self._on_heartbeat(self.progress)

    def withdraw(self) -> None:
        """For executors: tell the node that its attempt is no longer wanted. May be called from any thread."""
        self.cancelled = True

    # The run's context.

    @property
    def context(self) -> AsyncContext:
        """The same context behind ``async`` methods: ``await ctx.context.get("total")``."""
        try:
            return self._async_context
        except AttributeError:
            self._async_context: AsyncContext = AsyncContext(self)
            return self._async_context

    def get(self, key: str, default: Any = None) -> Any:
        """The value under *key*, as this node sees it (its own writes included), or *default*; an own copy."""
        found = self._find(key)
        return default if found is None else decode(found)

    def has(self, key: str) -> bool:
        """Whether there is a value under *key*; null is one."""
        return self._find(key) is not None

    def set(self, key: str, value: Any) -> None:
        """Write *value* under *key*. Raises :class:`~headrace.errors.ValueRefused` when it is not JSON or too large."""
        self._check_key(key)
        encoded = encode(value, bytes_max=self.value_bytes_max, what=f"context value {key!r}")
        self._record(Operation("set", key, encoded), encoded)

    def delete(self, key: str) -> None:
        """Remove *key*; nothing happens where there is none."""
        self._check_key(key)
        self._record(Operation("delete", key), None)

    def patch(self, values: Mapping[str, Any], delete: Iterable[str] = ()) -> None:
        """Write all of *values*, then remove the keys in *delete*; nothing is written when one of them is refused."""
        doomed = tuple(delete)
        encoded = {}
        for key, value in values.items():
            self._check_key(key)
            encoded[key] = encode(value, bytes_max=self.value_bytes_max, what=f"context value {key!r}")
        for key in doomed:
            self._check_key(key)
        for key, value in encoded.items():
            self._record(Operation("set", key, value), value)
        for key in doomed:
            self._record(Operation("delete", key), None)

    def increment(self, key: str, by: float = 1) -> Any:
        """Add *by* to the number under *key* (absent: 0) and return the sum as this node sees it.

        Recorded as an addition, so nodes that run side by side lose nothing. Raises TypeError where there is no number.
        """
        self._check_key(key)
        if isinstance(by, bool) or not isinstance(by, int | float):
            raise TypeError(f"context key {key!r} can be incremented by a number only, not by {type(by).__name__}")
        found = self._find(key)
        current = 0 if found is None else decode(found)
        if isinstance(current, bool) or not isinstance(current, int | float):
            raise TypeError(f"context key {key!r} holds {_json_type(current)}: only a number can be incremented")
        operation = Operation("increment", key, encode(by, what=f"increment of context key {key!r}"))
        total = current + by
        self._record(operation, encode(total, what=f"context value {key!r}"))
        return total

    def append(self, key: str, value: Any) -> None:
        """Add *value* to the end of the list under *key* (absent: an empty one).

        Recorded as an addition, so nodes that run side by side lose nothing. Raises TypeError where there is no list.
        """
        self._check_key(key)
        found = self._find(key)
        if found is not None and found[:1] != b"[":
            raise TypeError(f"context key {key!r} holds {_json_type(decode(found))}: only a list can be appended to")
        encoded = encode(value, bytes_max=self.value_bytes_max, what=f"value appended to context key {key!r}")
        # Encoded lists are joined as they are: decoding the list for every item would make long lists slow.
        longer = b"[" + encoded + b"]" if found is None or found == b"[]" else found[:-1] + b"," + encoded + b"]"
        self._record(Operation("append", key, encoded), longer)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """For executors: the writes of this attempt, in order."""
        return () if self._operations is None else tuple(self._operations)

    def replay(self, operations: Iterable[tuple[str, str, Any]]) -> None:
        """For executors: repeat writes of an earlier attempt's ``prep``, as (kind, key, decoded value)."""
        for kind, key, value in operations:
            if kind == "delete":
                self.delete(key)
            else:
                getattr(self, kind)(key, value)

    def _find(self, key: str) -> Json | None:
        """The encoded value that this node sees under *key*; None where there is none (null is ``b"null"``)."""
        overlay = self._overlay
        if overlay is not None and key in overlay:
            return overlay[key]
        if key == ERROR_KEY and self.execution.error is not None:
            return self.execution.error
        if not isinstance(key, str):
            raise _key_refused(key)
        return self.execution.context.get(key)

    def _record(self, operation: Operation, visible: Json | None) -> None:
        if self._operations is None or self._overlay is None:
            self._operations, self._overlay = [], {}
        self._operations.append(operation)
        self._overlay[operation.key] = visible

    @staticmethod
    def _check_key(key: str) -> None:
        if not isinstance(key, str):
            raise _key_refused(key)
        check_name(key, "a context key")


class AsyncContext:
    """The run's context as the model has it, asynchronous; see the methods of :class:`Context` for what each does."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def get(self, key: str, default: Any = None) -> Any:
        """As :meth:`Context.get`."""
        return self._ctx.get(key, default)

    async def has(self, key: str) -> bool:
        """As :meth:`Context.has`."""
        return self._ctx.has(key)

    async def set(self, key: str, value: Any) -> None:
        """As :meth:`Context.set`."""
        self._ctx.set(key, value)

    async def delete(self, key: str) -> None:
        """As :meth:`Context.delete`."""
        self._ctx.delete(key)

    async def patch(self, values: Mapping[str, Any], delete: Iterable[str] = ()) -> None:
        """As :meth:`Context.patch`."""
        self._ctx.patch(values, delete)

    async def increment(self, key: str, by: float = 1) -> Any:
        """As :meth:`Context.increment`."""
        return self._ctx.increment(key, by)

    async def append(self, key: str, value: Any) -> None:
        """As :meth:`Context.append`."""
        self._ctx.append(key, value)


class _NodeLog(logging.LoggerAdapter[logging.Logger]):
    """Adds the run and the node to a record without dropping the caller's own ``extra``, as the base class does."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


def _key_refused(key: object) -> TypeError:
    return TypeError(f"context keys are text, not {type(key).__name__}")


def _json_type(value: Any) -> str:
    """What JSON calls the value that is in the way."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
