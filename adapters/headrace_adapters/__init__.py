"""What carries the engine: one sub-package per technology, each the only importer of its client.

Import from the sub-package; this package re-exports nothing, so that a worker loads only the technologies that it uses.
"""

from __future__ import annotations

__all__: list[str] = []
