"""What is on the wire, and nothing else: the layout of topics, the formats of records and their codec.

Import from the module that owns a name; this package re-exports nothing, so a reader of one format loads only that.
"""

from __future__ import annotations

__all__: list[str] = []
