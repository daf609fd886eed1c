"""The broker that programs are run on."""

from __future__ import annotations

from tests.broker.fixtures import broker

__all__ = ["broker"]
