"""Bad input on every adapter that can be driven in one process."""

from __future__ import annotations

from tests.contract.fixtures import _quiet_nodes, app_name, backend, broker, place, pytest_generate_tests

__all__ = ["_quiet_nodes", "app_name", "backend", "broker", "place", "pytest_generate_tests"]
