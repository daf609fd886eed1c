"""Reaching the running worker of a folder from other processes of the same machine, over a local socket."""

from __future__ import annotations

__all__ = ["LinkClient", "LinkLimits", "LinkServer", "connect"]

from headrace_adapters.link.client import LinkClient, connect
from headrace_adapters.link.limits import LinkLimits
from headrace_adapters.link.server import LinkServer
