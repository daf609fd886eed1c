"""The plans that an owner has: every version of every blueprint that it knows, compiled once."""

from __future__ import annotations

__all__ = ["Plans"]

from collections.abc import Container

from headrace.blueprint import Blueprint, fingerprint
from headrace.errors import DefinitionError
from headrace.plan import Plan, compile_plan
from headrace.validation import check


class Plans:
    """Blueprints by id and version. The newest version of a blueprint is the one that was added last."""

    def __init__(self, implementations: Container[str]) -> None:
        self._implementations = implementations
        self._plans: dict[tuple[str, str], Plan] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}
        self._newest: dict[str, str] = {}
        self._lacking: dict[tuple[str, str], str] = {}

    def add(self, blueprint: Blueprint) -> bool:
        """Add one version; whether it was new.

        Raises :class:`headrace.errors.BlueprintInvalid` for problems, and :class:`DefinitionError` where the same
        version is known with other content: runs are pinned to versions, so a version never changes.
        """
        check(blueprint)
        key = (blueprint.id, blueprint.version)
        mark = fingerprint(blueprint)
        known = self._fingerprints.get(key)
        if known is not None and known != mark:
            raise DefinitionError(
                f"blueprint {blueprint.id!r} version {blueprint.version!r} is known with other content, and runs may be "
                "pinned to it: give the changed blueprint another version"
            )
        self._newest[blueprint.id] = blueprint.version
        if known is None:
            self._plans[key] = compile_plan(blueprint)
            self._fingerprints[key] = mark
        return known is None

    def get(self, blueprint_id: str, version: str | None) -> Plan | None:
        """The plan of a version, or of the newest one; None where it is not known."""
        if not version:
            version = self._newest.get(blueprint_id, "")
        return self._plans.get((blueprint_id, version))

    def lacks(self, blueprint_id: str, version: str | None) -> str:
        """Why a run of this blueprint has to be parked here; empty where nothing is lacking."""
        plan = self.get(blueprint_id, version)
        if plan is None:
            named = f"version {version!r} of blueprint" if version else "blueprint"
            return f"this worker does not know {named} {blueprint_id!r}: start a worker with an app that has it"
        key = (plan.id, plan.version)
        if key not in self._lacking:
            missing = sorted(uses for uses in plan.uses if uses not in self._implementations)
            named = ", ".join(repr(uses) for uses in missing)
            self._lacking[key] = (
                f"this worker has no implementation of {named}: start a worker with an app that has it" if missing else ""
            )
        return self._lacking[key]

    def blueprints(self) -> list[Blueprint]:
        """Every version that is known, in the order in which they were added."""
        return [plan.blueprint for plan in self._plans.values()]
