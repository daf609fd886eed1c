"""Fixtures that start a broker only when a test asks; no client is imported here."""

from __future__ import annotations

from tests.broker.fixtures import app_name, broker, cluster, own_broker

__all__ = ["app_name", "broker", "cluster", "own_broker"]
