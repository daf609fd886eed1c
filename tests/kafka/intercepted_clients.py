"""Real clients of a real broker, of which a test may see each call, and have some of them end otherwise."""

from __future__ import annotations

__all__ = ["InterceptedClients", "Kind"]

from collections.abc import Callable, Mapping
from typing import Any, Literal

from headrace_adapters.kafka.clients import Admin, ConfluentClients, Consumer, Producer

Kind = Literal["transactional", "producer", "member", "reader", "admin"]
Instead = Callable[..., Any]


class InterceptedClients(ConfluentClients):
    """*instead* has, by kind of client and method, what is called in place of it, with the real method in front."""

    def __init__(self) -> None:
        self.instead: dict[tuple[Kind, str], Instead] = {}
        self.calls: list[tuple[Kind, str, tuple[Any, ...]]] = []
        """All calls but those of produce, with their arguments."""

    def consumer(self, configuration: Mapping[str, Any]) -> Consumer:
        kind: Kind = "reader" if configuration["enable.partition.eof"] else "member"
        return _Intercepted(self, kind, super().consumer(configuration))  # type: ignore[return-value]

    def producer(self, configuration: Mapping[str, Any]) -> Producer:
        kind: Kind = "transactional" if "transactional.id" in configuration else "producer"
        return _Intercepted(self, kind, super().producer(configuration))  # type: ignore[return-value]

    def admin(self, configuration: Mapping[str, Any]) -> Admin:
        return _Intercepted(self, "admin", super().admin(configuration))  # type: ignore[return-value]


class _Intercepted:
    def __init__(self, clients: InterceptedClients, kind: Kind, real: Any) -> None:
        self._clients, self._kind, self._real = clients, kind, real

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name == "produce":
            return method
        clients, kind = self._clients, self._kind

        def call(*args: Any, **named: Any) -> Any:
            clients.calls.append((kind, name, args))
            instead = clients.instead.get((kind, name))
            return method(*args, **named) if instead is None else instead(method, *args, **named)

        return call
