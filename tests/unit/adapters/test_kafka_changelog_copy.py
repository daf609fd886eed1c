"""The copy of the changelogs: whatever a worker has in its store is what another one finds by reading the records."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.driven import START_MS, Driven
from tests.kafka.recorded_carrier import HOUR_MS, LogMessage, RecordedCarrier, layout_of

from headrace import commands as c
from headrace.limits import Limits
from headrace.ports import Ended
from headrace.state import RunState
from headrace_adapters.kafka.changelog_copy import META, OFFSET, ChangelogCopy, offset_place
from headrace_adapters.memory import MemoryStore
from headrace_topics.names import OFFSET_KEY

ODD_IDS = ["r", 'quo"te', "back\\slash", 'both\\"', "tür/🚪", "new\nline", '["r","r"]', ',"r"]', "r/kid", "\x00"]

FLOWS: list[dict[str, Any]] = [
    {
        "id": "quick",
        "nodes": [{"id": "r", "uses": "echo"}, {"id": "k", "uses": "write"}],
        "edges": [{"source": "r", "target": "k"}],
    },
    {
        "id": "waiting",
        "nodes": [
            {"id": "r", "uses": "wait", "params": {"event": "e"}},
            {"id": "nap", "uses": "sleep", "params": {"duration": "90s"}},
            {"id": "then", "uses": "write"},
        ],
        "edges": [{"source": "r", "target": "then"}, {"source": "nap", "target": "then"}],
    },
    {"id": "flaky", "nodes": [{"id": "n", "uses": "boom", "config": {"maxRetries": 2, "retryDelay": 60_000}}], "edges": []},
    {
        "id": "hanging",
        "nodes": [{"id": "h", "uses": "hang"}, {"id": "then", "uses": "echo"}],
        "edges": [{"source": "h", "target": "then"}],
    },
    {
        "id": "batch",
        "nodes": [
            {"id": "items", "uses": "items"},
            {"id": "b", "uses": "batch-scatter", "params": {"workerUsesKey": "flip", "gatherNodeId": "g", "chunkSize": 2}},
            {"id": "g", "uses": "batch-gather"},
        ],
        "edges": [{"source": "items", "target": "b"}, {"source": "b", "target": "g"}],
    },
    {"id": "parent", "nodes": [{"id": "kid", "uses": "subflow", "params": {"blueprintId": "waiting"}}], "edges": []},
]


@pytest.fixture(autouse=True, scope="module")
def _quiet_nodes() -> Iterator[None]:
    """Nodes fail here on purpose, with a traceback each."""
    logger = logging.getLogger("headrace.node")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


def _write(ctx: object) -> object:
    ctx.set("r", {"status": "running"})  # type: ignore[attr-defined]
    ctx.set('quo"te', '"status":"scheduled"')  # type: ignore[attr-defined]
    return {"status": "running", "due": 5, "parked": "", "ended": "no"}


def _boom() -> None:
    raise ConnectionError("not now")


FUNCTIONS = {
    "echo": lambda ctx: ctx.input,
    "write": _write,
    "boom": _boom,
    "hang": lambda: None,
    "items": lambda: [1, 2, 3, 4, 5],
    "flip": lambda ctx: -ctx.input,
}


def opened(store: MemoryStore | None = None) -> tuple[RecordedCarrier, Driven]:
    limits = Limits(dedup_window_ms=HOUR_MS)
    carrier = RecordedCarrier(store or MemoryStore(), limits)
    return carrier, Driven(carrier, FLOWS, FUNCTIONS, limits=limits, hanging=["hang"])


def space(store: MemoryStore, letters: bytes) -> dict[bytes, bytes]:
    return {key: value for letter in letters for key, value in store.scan(bytes((letter,)))}


def copy_of(store: MemoryStore, now_ms: int = START_MS, **others: str) -> ChangelogCopy:
    return ChangelogCopy(store, layout_of(**others), lambda: now_ms)


def apply(copy: ChangelogCopy, messages: Sequence[LogMessage], number: int, progress: list[int]) -> None:
    """As the restorer does it: by topic and partition."""
    records: dict[tuple[str, int], list[Any]] = {}
    for message in messages:
        records.setdefault((message.topic(), message.partition()), []).append(message)
    copy.apply(records, {number: progress})


def in_slices(messages: list[LogMessage], draw: random.Random) -> Iterator[list[LogMessage]]:
    while messages:
        size = draw.randrange(1, 30)
        yield messages[:size]
        messages = messages[size:]


def compacted(messages: list[LogMessage]) -> list[LogMessage]:
    """What the broker's cleaner may leave: the last record of each key."""
    last = {(message.topic(), message.key()): message for message in messages}
    return [message for message in messages if last[message.topic(), message.key()] is message]


def check_same(theirs: MemoryStore, ours: MemoryStore) -> None:
    """The records are the same, and so is which runs are active or parked; the copy lacks no timer."""
    assert space(ours, b"HCXAP") == space(theirs, b"HCXAP")
    assert {key: value for key, value in space(ours, b"M").items() if key.startswith(OFFSET)} == space(theirs, b"M")
    assert not space(theirs, b"T").keys() - space(ours, b"T").keys()


IDS = st.sampled_from(ODD_IDS)
STARTS = [
    c.Start("", flow, input=value, context=context)
    for flow in [*(flow["id"] for flow in FLOWS), "unknown"]
    for value, context in ((b"null", {}), (b'{"due":1,"parked":true,"ended":"x"}', {"r": b"1", 'quo"te': b'"x"'}))
]
OTHERS = [
    c.Signal("", "e", b'{"status":"running"}'),
    *(c.Resume("", node, key=key) for node in ("r", "kid", "kid/r") for key in (None, "r", "k2")),
    c.Cancel(""),
    c.Pause(""),
    c.Unpause(""),
]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(STARTS), IDS).map(lambda it: it[0]._replace(run_id=it[1])),
        st.tuples(st.sampled_from(OTHERS), IDS).map(lambda it: it[0]._replace(run_id=it[1])),
        st.sampled_from([1_000, 90_000, HOUR_MS]),
    ),
    max_size=16,
)


@settings(max_examples=40)
@given(STEPS, st.randoms(use_true_random=False))
def test_whoever_reads_the_changelogs_has_what_their_writer_has(steps: list[c.Command | int], draw: random.Random) -> None:
    """At every moment, from any offset on, in slices of any size, and of what compaction leaves."""
    carrier, driven = opened()
    warm = MemoryStore()
    follower = copy_of(warm)
    done = {number: [0, 0] for number in range(3)}
    for step in steps:
        if isinstance(step, int):
            driven.advance(step)
        else:
            carrier.say(step)
            driven.loop.wake()
            if draw.random() < 0.7:
                driven.settle()
        if draw.random() < 0.5:
            for number in range(3):
                for part in in_slices(carrier.changelog(number, done[number]), draw):
                    apply(follower, part, number, carrier.ends(number))
                done[number] = carrier.ends(number)
                if draw.random() < 0.2:
                    follower.leave(number)
            check_same(carrier.store, warm)
    driven.settle()

    for make in (list, compacted):
        fresh = MemoryStore()
        copy = copy_of(fresh)
        for number in range(3):
            for part in in_slices(make(carrier.changelog(number)), draw):
                apply(copy, part, number, carrier.ends(number))
        check_same(carrier.store, fresh)


@settings(max_examples=25)
@given(STEPS)
def test_runs_go_on_from_a_copy_as_they_do_from_the_store_of_their_writer(steps: list[c.Command | int]) -> None:
    carrier, driven = opened()
    for step in steps:
        if isinstance(step, int):
            driven.advance(step)
        else:
            carrier.say(step)
            driven.loop.wake()
            driven.settle()
    fresh = MemoryStore()
    for number in range(3):
        apply(copy_of(fresh), carrier.changelog(number), number, carrier.ends(number))

    _, next_owner = opened(fresh)
    next_owner.now_ms = driven.now_ms
    for world in (driven, next_owner):
        world.advance(HOUR_MS // 2)

    for run_id in ODD_IDS:
        here, there = driven.run(run_id), next_owner.run(run_id)
        assert type(here) is type(there)
        if isinstance(here, RunState) and isinstance(there, RunState):
            assert (here.status, here.context, {k: n.status for k, n in here.nodes.items()}) == (
                there.status, there.context, {k: n.status for k, n in there.nodes.items()},
            )  # fmt: skip
        elif isinstance(here, Ended):
            assert here == there
    driven.advance(10 * HOUR_MS)
    next_owner.advance(10 * HOUR_MS)
    assert not space(fresh, b"T").keys() - space(carrier.store, b"T").keys(), (
        "timers that mean nothing any more go when they are due"
    )


# How far the copy is.


def test_a_copy_knows_how_far_it_is_and_of_which_topics_it_is() -> None:
    store = MemoryStore()
    copy = copy_of(store)
    assert copy.progress(1) is None

    copy.apply({}, {1: [7, 5]})

    assert copy.progress(1) == [7, 5]
    assert copy.progress(0) is None, "each partition has a copy of its own"
    assert copy_of(store, created="second").progress(1) is None, "the topics were made again"
    assert copy_of(store, cluster="other").progress(1) is None


def test_a_copy_that_is_older_than_tombstones_are_kept_is_none(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    copy_of(store).apply({}, {0: [7, 5]})

    assert copy_of(store, START_MS + 24 * HOUR_MS).progress(0) == [7, 5]
    assert copy_of(store, START_MS - HOUR_MS).progress(0) == [7, 5], "a clock that went back"
    assert copy_of(store, START_MS + 24 * HOUR_MS + 1).progress(0) is None
    assert "24 hours old" in caplog.text


@pytest.mark.parametrize(
    "record",
    [
        b"", b"{", b"[]", b"7", b"null", b'"x"', b"{}", b'{"cluster":"cluster"}', b"\xff",
        b'{"cluster":"cluster","topics":["a","b"],"next":7,"at":0}',
        b'{"cluster":"cluster","topics":["a","b"],"next":["x",1],"at":0}',
        b'{"cluster":"cluster","topics":["a","b"],"next":[1,1],"at":null}',
    ],
)  # fmt: skip
def test_a_copy_that_does_not_say_what_it_is_is_none(record: bytes, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    store.write([(META + b"\x00\x00", record)])

    assert copy_of(store).progress(0) is None
    assert "made anew" in caplog.text


def test_a_copy_of_another_number_of_changelogs_is_none() -> None:
    store = MemoryStore()
    key, record = copy_of(store).meta(0, [1, 2])
    store.write([(key, orjson.dumps({**orjson.loads(record), "next": [1, 2, 3]}))])

    assert copy_of(store).progress(0) is None


def test_a_wiped_copy_leaves_nothing_and_others_everything() -> None:
    carrier, driven = opened()
    for run_id in ODD_IDS:
        for flow in ("waiting", "hanging", "unknown", "quick"):
            carrier.say(c.Start(f"{flow}-{run_id}", flow, context={"k": b"1"}))
    driven.settle()
    copy = copy_of(carrier.store)
    for number in range(3):
        copy.apply({}, {number: [1, 1]})
    before = space(carrier.store, b"HCXTAPM")
    assert {key[:1] for key in before} == {b"H", b"C", b"X", b"T", b"A", b"P", b"M"}

    copy.wipe(1)

    of_it = {key for key in before if key[1:3] == b"\x00\x01" or key in (META + b"\x00\x01", OFFSET + b"\x00\x01")}
    assert space(carrier.store, b"HCXTAPM") == {key: value for key, value in before.items() if key not in of_it}
    assert copy.progress(1) is None
    assert copy.jobs_offset(1) is None
    assert copy.progress(0) == [1, 1]


def test_the_offset_of_jobs_stands_beside_the_state() -> None:
    store = MemoryStore()
    copy = copy_of(store)
    layout = layout_of()
    apply(copy, [LogMessage(layout.coordination, 2, 0, OFFSET_KEY, b'{"next":41}')], 2, [1, 0])
    apply(copy, [LogMessage(layout.context, 2, 0, OFFSET_KEY, b'{"next":1}')], 2, [1, 1])

    assert store.get(offset_place(2)) == b'{"next":41}'
    assert copy.jobs_offset(0) is None


def test_the_newest_of_several_records_of_a_key_in_one_slice_counts() -> None:
    store = MemoryStore()
    copy = copy_of(store)
    topic = layout_of().context
    records = [LogMessage(topic, 0, at, b'["r","k"]', value) for at, value in enumerate([b"1", None, b"2"])]

    apply(copy, records, 0, [0, 3])
    assert store.get(b"X\x00\x00" + b'["r","k"]') == b"2"
    apply(copy, [LogMessage(topic, 0, 3, b'["r","k"]', None)], 0, [0, 4])
    assert store.get(b"X\x00\x00" + b'["r","k"]') is None
