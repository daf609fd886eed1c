"""An app while it is connected: its client, and what was in it at that moment, by which values and flows are judged."""

from __future__ import annotations

__all__ = ["Connection", "checked_id"]

import base64
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from headrace import commands as c
from headrace.blueprint import Blueprint
from headrace.builder import Flow
from headrace.errors import DefinitionError, ValueRefused
from headrace.validation import check
from headrace.values import check_name, encode

if TYPE_CHECKING:
    from headrace.adapter import Client
    from headrace.app import App


class Connection:
    """A client, with what was in the app when it was connected."""

    def __init__(self, app: App, client: Client, value_bytes_max: int) -> None:
        self.client = client
        self._app_name = app.name
        self._value_bytes_max = value_bytes_max
        self._implementations = frozenset(app.registry.keys())
        self._versions = {(blueprint.id, blueprint.version): blueprint for blueprint in app.blueprints}
        self._newest = {blueprint.id: blueprint for blueprint in self._versions.values()}
        self._startable: set[tuple[str, str | None]] = set()

    def encode(self, value: Any, what: str) -> bytes:
        return encode(value, bytes_max=self._value_bytes_max, what=what)

    def start(
        self, flow: str | Flow, version: str | None, context: Mapping[str, Any] | None
    ) -> Callable[[Any, str | None], c.Start]:
        """What makes the starts of a flow, by input and run id; refuses a flow that could never run here."""
        flow_id = checked_id("the id of a flow", flow.id if isinstance(flow, Flow) else flow)
        values = {key: self.encode(value, f"context value {key!r}") for key, value in (context or {}).items()}
        self.check_startable(flow_id, version)

        def start(value: Any, run_id: str | None) -> c.Start:
            checked = checked_id("the id of a run", _new_run_id() if run_id is None else run_id)
            return c.Start(checked, flow_id, version, self.encode(value, "the input"), values)

        return start

    def check_startable(self, flow_id: str, version: str | None) -> None:
        """Refuse what could never run with this app. One that has no flows leaves that to its worker."""
        if not self._versions or (flow_id, version) in self._startable:
            return
        blueprint = self._versions.get((flow_id, version)) if version else self._newest.get(flow_id)
        if blueprint is None:
            named = f"{flow_id!r} of version {version!r}" if version and flow_id in self._newest else f"{flow_id!r}"
            known = ", ".join(f"{known!r} (version {version!r})" for known, version in sorted(self._versions))
            raise DefinitionError(f"app {self._app_name!r} has no flow {named}; it has {known}")
        for member in self._family(blueprint):
            check(member, implementations=self._implementations, blueprints=self._newest)
        self._startable.add((flow_id, version))

    def _family(self, blueprint: Blueprint) -> list[Blueprint]:
        """The blueprint and those of all its subflows, as far as they are known."""
        found = {blueprint.id: blueprint}
        waiting = [blueprint]
        while waiting:
            for node in waiting.pop().nodes:
                child = self._newest.get(str(node.params.get("blueprintId"))) if node.uses == "subflow" else None
                if child is not None and child.id not in found:
                    found[child.id] = child
                    waiting.append(child)
        return list(found.values())


def _new_run_id() -> str:
    return base64.b32encode(os.urandom(15)).decode("ascii").lower()


def checked_id(what: str, value: str) -> str:
    """The id of *what*, if it can be one; raises :class:`ValueRefused`."""
    if not isinstance(value, str) or not value:
        raise ValueRefused(f"{what} is text that is not empty, not {value!r}")
    check_name(value, what)
    return value
