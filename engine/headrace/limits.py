"""Every bound of the engine, named, with its reason.

A bound that an installation may want to change is a field of :class:`Limits`; the others are constants.
"""

from __future__ import annotations

__all__ = ["Limits"]

from dataclasses import dataclass

# A subflow that starts itself would otherwise never end.
SUBFLOW_DEPTH_MAX = 32

# CEL's parser recurses, and a longer expression than this belongs into a node.
EXPRESSION_CHARS_MAX = 2_048

# What one evaluation may look at, as counted by ``expressions``: about a second of work.
EXPRESSION_STEPS_MAX = 5_000_000

# What one evaluation may build, in bytes, by its upper bound.
EXPRESSION_BYTES_MAX = 256 * 1024 * 1024

# While-loops without an end of their own stop here (SEMANTICS section 7).
LOOP_ITERATIONS_DEFAULT = 10_000

# Node and run ids become parts of keys; the store and Kafka both slow down with long ones.
ID_BYTES_MAX = 1_024

# Signals that come before their wait are kept; a producer that never stops must not fill the store.
SIGNALS_KEPT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds that a worker may set.

    *value_bytes_max*: one input, output, context value or payload (Kafka's own default is about 1 MB a record).
    *batch_items_max*: items of one ``batch-scatter``.
    *runs_cached_max*: runs of one partition that are kept decoded in memory; the others are read when needed.
    *dedup_window_ms*: how long a finished run is remembered, so that a second start changes nothing.
    """

    value_bytes_max: int = 1_000_000
    batch_items_max: int = 100_000
    runs_cached_max: int = 10_000
    dedup_window_ms: int = 7 * 24 * 3_600_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
