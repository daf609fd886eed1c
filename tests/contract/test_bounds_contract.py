"""What is kept, for how long, and how much of it in memory."""

from __future__ import annotations

import sys
from typing import Any

from headrace import commands as c
from headrace.limits import Limits
from headrace.ports import Ended
from headrace_adapters.local.carrier import LocalCarrier
from headrace_adapters.local.layout import EVENTS
from headrace_topics.names import run_prefix
from tests.scenarios.backends import Backend

from .driven import START_MS, Driven, history_of, result_of

HOUR_MS = 3_600_000
WAITING = {
    "id": "waiting",
    "nodes": [{"id": "ask", "uses": "wait", "params": {"event": "e"}}, {"id": "then", "uses": "echo"}],
    "edges": [{"source": "ask", "target": "then"}],
}
QUICK = {"id": "quick", "nodes": [{"id": "only", "uses": "echo"}], "edges": []}
FUNCTIONS: dict[str, Any] = {"echo": lambda ctx: ctx.input}


def opened(backend: Backend, limits: Limits, now_ms: int = START_MS) -> Driven:
    return Driven(LocalCarrier(backend.store, limits, 3), [WAITING, QUICK], FUNCTIONS, limits=limits, now_ms=now_ms)


# The dedup window.


def test_a_start_within_the_window_is_a_duplicate_and_after_it_a_new_run(backend: Backend) -> None:
    driven = opened(backend, Limits(dedup_window_ms=HOUR_MS))
    driven.submit(c.Start("r", "quick", input=b'"first"'))
    driven.settle()
    driven.advance(HOUR_MS - 1)
    assert driven.submit(c.Start("r", "quick", input=b'"second"')).outcome == "duplicate"
    assert getattr(result_of(backend.store, "r"), "output", None) == "first"

    driven.advance(1)
    assert driven.run("r") is None
    assert result_of(backend.store, "r") is None, "the result goes with the marker"
    assert list(backend.store.scan(EVENTS + run_prefix("r"))) == [], "and the history, rejections too"
    assert [key for key, _ in backend.store.scan(b"") if key[:1] != b"M"] == [], "nothing at all is left"

    assert driven.submit(c.Start("r", "quick", input=b'"third"')).outcome == "applied"
    driven.settle()
    assert getattr(result_of(backend.store, "r"), "output", None) == "third"
    assert history_of(backend.store, "r").count("RunStarted") == 1


def test_the_window_passes_while_nobody_works(backend: Backend) -> None:
    limits = Limits(dedup_window_ms=HOUR_MS)
    driven = opened(backend, limits)
    driven.submit(c.Start("r", "quick"))
    driven.settle()
    assert isinstance(driven.run("r"), Ended)

    backend.die()
    driven = opened(backend, limits, START_MS + 50 * HOUR_MS)
    driven.settle()

    assert driven.submit(c.Start("r", "quick", input=b"2")).outcome == "applied"
    driven.settle()
    assert getattr(result_of(backend.store, "r"), "output", None) == 2


def test_a_start_in_the_very_moment_in_which_the_window_ends_is_decided_one_way_or_the_other(backend: Backend) -> None:
    driven = opened(backend, Limits(dedup_window_ms=HOUR_MS))
    driven.submit(c.Start("r", "quick", input=b"1"))
    driven.settle()
    driven.now_ms += HOUR_MS
    outcome = driven.submit(c.Start("r", "quick", input=b"2")).outcome
    driven.settle()

    assert outcome in {"duplicate", "applied"}
    assert getattr(result_of(backend.store, "r"), "output", None) == (2 if outcome == "applied" else None)


def test_a_clock_that_goes_back_expires_nothing_early_and_stops_nothing(backend: Backend) -> None:
    driven = opened(backend, Limits(dedup_window_ms=HOUR_MS))
    driven.submit(c.Start("r", "quick"))
    driven.settle()
    driven.advance(-10 * HOUR_MS)
    driven.submit(c.Start("w", "waiting"))
    driven.submit(c.Signal("w", "e", b"5"))
    driven.settle()

    assert driven.submit(c.Start("r", "quick")).outcome == "duplicate"
    result = result_of(backend.store, "w")
    assert result is not None
    assert result.output == 5
    assert result.ended_at_ms >= result.started_at_ms == START_MS


# Runs in memory.


def cached(driven: Driven) -> int:
    """How many runs are decoded in memory."""
    return sum(len(list(partition._residents.known())) for partition in driven.loop.partitions.values())


def test_of_many_waiting_runs_few_are_in_memory_and_all_can_be_reached(backend: Backend) -> None:
    number, cached_max = 500, 10
    driven = opened(backend, Limits(runs_cached_max=cached_max))
    for index in range(number):
        driven.submit(c.Start(f"r{index}", "waiting", context={"n": str(index).encode()}))
    driven.settle()
    assert cached(driven) <= 3 * cached_max, "three partitions"

    for index in range(number):
        assert driven.submit(c.Signal(f"r{index}", "e", str(index).encode())).outcome == "applied"
        assert cached(driven) <= 3 * (cached_max + 1)
    driven.settle()

    for index in range(number):
        result = result_of(backend.store, f"r{index}")
        assert result is not None
        assert (result.output, result.context) == (index, {"n": index})
        assert history_of(backend.store, f"r{index}") == history_of(backend.store, "r0"), "each took the same way"


def test_runs_that_were_dropped_from_memory_keep_their_timers(backend: Backend) -> None:
    limits = Limits(runs_cached_max=1)
    napping = {"id": "nap", "nodes": [{"id": "n", "uses": "sleep", "params": {"duration": "2h"}}], "edges": []}
    driven = Driven(LocalCarrier(backend.store, limits, 3), [napping], FUNCTIONS, limits=limits)
    for index in range(60):
        driven.submit(c.Start(f"r{index}", "nap", input=str(index).encode()))
    driven.settle()
    assert cached(driven) <= 3
    driven.advance(2 * HOUR_MS - 1)
    assert all(driven.status(f"r{index}") == "running" for index in range(60))
    driven.advance(1)

    assert [getattr(result_of(backend.store, f"r{index}"), "output", None) for index in range(60)] == list(range(60))


def test_what_a_worker_holds_does_not_grow_with_the_runs_that_it_has_done(backend: Backend) -> None:
    """Every container of loop, partitions and executor is counted, so a leak anywhere in them shows."""
    driven = opened(backend, Limits(runs_cached_max=10, dedup_window_ms=1_000))

    def work(first: int) -> int:
        for index in range(first, first + 100):
            driven.submit(c.Start(f"r{index}", "waiting"))
            driven.submit(c.Resume(f"r{index}", "nowhere"))
            driven.submit(c.Signal(f"r{index}", "e"))
        driven.settle()
        driven.advance(120_000)
        driven.executor.begun.clear()
        return _size([driven.loop], set())

    work(0)
    once = work(100)
    more = [work(200 + 100 * number) for number in range(4)]

    assert once > 10_000, "the count sees what is there"
    assert max(more) <= once + 2_000


def _size(things: list[Any], seen: set[int]) -> int:
    """Bytes of everything that can be reached, but for classes, functions, modules, and the store itself."""
    size = 0
    while things:
        thing = things.pop()
        outside = type(thing).__name__ in {"module", "MemoryStore", "RocksStore"}
        if id(thing) in seen or outside or isinstance(thing, type) or callable(thing):
            continue
        seen.add(id(thing))
        size += sys.getsizeof(thing)
        if isinstance(thing, dict):
            things += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ in {"deque", "Counter"}:
            things += list(thing)
        things += list(getattr(thing, "__dict__", {}).values())
        for owner in type(thing).__mro__:
            slots = getattr(owner, "__slots__", ())
            names = (slots,) if isinstance(slots, str) else slots
            things += [getattr(thing, name) for name in names if hasattr(thing, name)]
    return size
