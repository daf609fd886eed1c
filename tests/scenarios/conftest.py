"""Groups of workers on a real broker, made when the first scenario asks for one of that size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.broker.fixtures import AppName, app_name, broker

if TYPE_CHECKING:
    from tests.kafka.scenario_world import Group, KafkaWorld

__all__ = ["app_name", "broker", "scenario_groups"]


class ScenarioGroups:
    """The group that is at work; another size of it takes its place."""

    def __init__(self, bootstrap: str, app_name: AppName, folders: pytest.TempPathFactory) -> None:
        self._bootstrap = bootstrap
        self._app_name = app_name
        self._folders = folders
        self._group: Group | None = None
        self._size = 0

    def world(self, size: int, name: str, blueprints: list[dict[str, Any]], script: Any) -> KafkaWorld:
        from tests.kafka.scenario_world import Group, KafkaWorld

        if self._group is None or self._size != size or self._group.broken:
            self.close()
            app, self._size = self._app_name(f"scenarios-{size}"), size
            self._group = Group(self._bootstrap, app, self._folders.mktemp(app), size)
        return KafkaWorld(self._group, self._app_name(name), blueprints, script)

    def close(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            group.close()


@pytest.fixture(scope="session")
def scenario_groups(broker: str, app_name: AppName, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScenarioGroups]:
    """Workers that take one scenario after the other."""
    groups = ScenarioGroups(broker, app_name, tmp_path_factory)
    yield groups
    groups.close()
