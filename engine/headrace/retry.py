"""How long to wait before the next attempt: pure, with jitter that replay repeats."""

from __future__ import annotations

__all__ = ["retry_delay_ms"]

from hashlib import blake2b
from typing import Protocol

# No delay is longer than this, whatever a factor makes of it.
DELAY_MS_MAX = 100 * 365 * 24 * 3_600_000


class Policy(Protocol):
    """What a node's config says about further attempts."""

    retry_delay_ms: int
    retry_backoff: float
    max_retry_delay_ms: int | None
    retry_jitter: float


def retry_delay_ms(policy: Policy, seed: str, attempt: int) -> int:
    """The delay after the failed *attempt* (1-based): the first waits ``retryDelay``, each further one the factor more.

    The jitter is drawn from *seed* and the attempt, so it is the same wherever the decision is made again.
    """
    assert attempt >= 1, attempt
    if policy.retry_delay_ms == 0:
        return 0
    ceiling = DELAY_MS_MAX if policy.max_retry_delay_ms is None else min(policy.max_retry_delay_ms, DELAY_MS_MAX)
    try:
        # A float, because a power of whole numbers has no bound: it would take ever longer to reckon.
        delay = policy.retry_delay_ms * float(policy.retry_backoff) ** (attempt - 1)
    except OverflowError:
        delay = float(ceiling)
    if policy.retry_jitter:
        digest = blake2b(f"{seed}/{attempt}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        fraction = int.from_bytes(digest, "big") / 2**64
        delay *= 1 + policy.retry_jitter * (2 * fraction - 1)
    # Bounded first: a product may be infinite, which no whole number is.
    return max(0, round(min(delay, ceiling)))
