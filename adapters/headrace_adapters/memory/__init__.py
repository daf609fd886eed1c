"""Everything in memory: for tests, and for flows that need not outlive their process. With faults on request."""

from headrace_adapters.memory.adapter import open_adapter
from headrace_adapters.memory.store import Crash, Faults, MemoryStore

__all__ = ["Crash", "Faults", "MemoryStore", "open_adapter"]
