"""What the workers of a world have: the blueprints and implementations of its case, of which some may lack one."""

from __future__ import annotations

__all__ = ["Release"]

from typing import NamedTuple, cast

from headrace.app import App
from tests.simulation.case_types import Case
from tests.simulation.compilation import blueprint_of


class SimulatedApp(NamedTuple):
    """What a worker needs of an app."""

    registry: frozenset[str]
    blueprints: list[object]


class Release:
    """Made anew for every worker. *lacking* is what the next one lacks, a blueprint or an implementation, or empty."""

    def __init__(self, case: Case) -> None:
        self._blueprints = [blueprint_of(blueprint) for blueprint in case.blueprints]
        self._uses = frozenset(case.behaviours)
        self._names = [*case.behaviours]
        self.lacking = ""

    def lack_blueprint(self, which: int) -> None:
        """The first workers lack a blueprint. Later ones could not: the store has it as soon as one of them had it."""
        self.lacking = self._blueprints[which % len(self._blueprints)].id

    def lack_implementation(self, which: int) -> None:
        """The next workers lack an implementation, or have again what the last ones lacked."""
        self.lacking = self._names[which % len(self._names)] if self._names and not self.lacking else ""

    def app(self) -> App:
        """The app of a worker, or of a command."""
        known: list[object] = [blueprint for blueprint in self._blueprints if blueprint.id != self.lacking]
        return cast("App", SimulatedApp(self._uses - {self.lacking}, known))
