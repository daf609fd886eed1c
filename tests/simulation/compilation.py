"""Blueprints and plans of cases, made once where the same one comes again: most of a small world's time went into that.

What is remembered are pure functions, so nothing that runs can tell the difference; plans are never changed by running.
"""

from __future__ import annotations

__all__ = ["blueprint_of", "plans_of", "share_compilation"]

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from headrace import plans as plans_module
from headrace.blueprint import Blueprint, fingerprint, from_json
from headrace.plan import Plan, compile_plan
from headrace.validation import check
from headrace_adapters.kafka import blueprint_log
from headrace_adapters.local import carrier as local_carrier

from .case_types import Case

T = TypeVar("T")

KEPT_MAX = 2_000
FORMS_MAX = 8

# By id; flows that are drawn use theirs again and again with other content.
_blueprints: dict[str, list[tuple[Any, Blueprint]]] = {}


def blueprint_of(data: Any) -> Blueprint:
    """What :func:`headrace.blueprint.from_json` makes of this; the same object where it is asked for again."""
    flow_id = data.get("id") if isinstance(data, dict) else None
    if not isinstance(flow_id, str):
        return from_json(data)
    known = _blueprints.setdefault(flow_id, [])
    for other, blueprint in known:
        if other == data:
            return blueprint
    made = from_json(data)
    # The canonical form of a document is another one, of the same blueprint.
    made = next((blueprint for _, blueprint in known if blueprint == made), made)
    if len(known) >= FORMS_MAX:
        known.clear()
    known.append((data, made))
    return made


def _remembering(function: Callable[[Blueprint], T]) -> Callable[[Blueprint], T]:
    """The function, called once for each object: a blueprint is frozen, but has no hash."""
    # An object that is kept here keeps its id.
    kept: dict[int, tuple[Blueprint, T]] = {}

    def remembering(blueprint: Blueprint) -> T:
        known = kept.get(id(blueprint))
        if known is None:
            if len(kept) >= KEPT_MAX:
                kept.clear()
            known = kept[id(blueprint)] = (blueprint, function(blueprint))
        return known[1]

    return remembering


_compiled = _remembering(compile_plan)
_fingerprint = _remembering(fingerprint)
_checked = _remembering(check)


def plans_of(case: Case) -> dict[str, Plan]:
    """The plans of a case by the ids of their blueprints."""
    return {data["id"]: _compiled(blueprint_of(data)) for data in case.blueprints}


def share_compilation() -> None:
    """From here on, this process reads each blueprint once and compiles it once, whatever worker asks for that."""
    for module, name, function in _SHARED:
        setattr(module, name, function)


_SHARED: tuple[tuple[ModuleType, str, Callable[..., Any]], ...] = (
    (blueprint_log, "from_json", blueprint_of),
    (local_carrier, "from_json", blueprint_of),
    (plans_module, "compile_plan", _compiled),
    (plans_module, "fingerprint", _fingerprint),
    (plans_module, "check", _checked),
)
