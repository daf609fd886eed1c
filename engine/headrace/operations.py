"""Context writes as operations on encoded values.

``increment`` and ``append`` are recorded as what they do and not as what came out of it, so parallel nodes that use
them on one key lose nothing.
"""

from __future__ import annotations

__all__ = ["apply_operation", "preview"]

from collections.abc import Iterable, Mapping

from headrace.errors import ValueRefused
from headrace.execution import Operation
from headrace.values import Json, check_size, decode, encode


def apply_operation(operation: Operation, value: Json | None) -> Json | None:
    """The value of a key after *operation*; None where there is none.

    Raises :class:`ValueRefused` when the key holds something that cannot be incremented or appended to.
    """
    kind, key, operand = operation
    if kind == "set":
        return operand
    if kind == "delete":
        return None
    assert operand is not None, f"{kind} without a value"
    if kind == "append":
        if value is None or value == b"[]":
            return b"[" + operand + b"]"
        if not value.startswith(b"["):
            raise ValueRefused(f"context key {key!r} holds no list, so nothing can be appended to it")
        return value[:-1] + b"," + operand + b"]"
    assert kind == "increment", f"unknown operation {kind}"
    number = 0 if value is None else decode(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueRefused(f"context key {key!r} holds no number, so it cannot be incremented")
    return encode(number + decode(operand), what=f"context key {key!r}")


def preview(operations: Iterable[Operation], context: Mapping[str, Json], bytes_max: int) -> dict[str, Json | None]:
    """What the keys will hold after *operations* (None: gone), without changing *context*.

    Raises :class:`ValueRefused` when one of them does not fit the present value, or makes it larger than *bytes_max*.
    """
    changed: dict[str, Json | None] = {}
    for operation in operations:
        key = operation.key
        value = changed[key] if key in changed else context.get(key)
        result = changed[key] = apply_operation(operation, value)
        if result is not None:
            check_size(result, bytes_max, f"context key {key!r}")
    return changed
