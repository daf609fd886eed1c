"""Keys keep the records of a run together and apart from those of any other, whatever its id holds."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from headrace_topics.names import TOPICS, context_key, coordination_key, run_prefix, split_key

TEXTS = st.sampled_from(["", "\x00", '"', "\\", '","', "]", "\u2028", "ключ", "\U0001f600"]) | st.text(max_size=12)
PARTS = st.lists(TEXTS, min_size=1, max_size=3).map(tuple).filter(lambda part: part[0] != "s")


def test_topics_have_names_of_their_own_and_a_cleanup_that_kafka_knows() -> None:
    names = [topic.name for topic in TOPICS]

    assert len(names) == len(set(names))
    assert {policy for topic in TOPICS for policy in topic.cleanup.split(",")} == {"compact", "delete"}


def test_what_is_keyed_by_run_is_told_from_what_is_not() -> None:
    keyed = {topic.name for topic in TOPICS if topic.keyed_by_run}

    assert keyed == {"jobs", "context-changelog", "coordination-changelog", "events", "results"}


@given(TEXTS, PARTS)
def test_a_key_can_be_taken_apart(run_id: str, part: tuple[str, ...]) -> None:
    prefix = run_prefix(run_id)

    assert split_key(coordination_key(prefix, part)) == [run_id, *part]
    assert split_key(context_key(prefix, part[0])) == [run_id, part[0]]


def test_kept_signals_sort_by_their_number() -> None:
    prefix = run_prefix("r1")
    keys = [coordination_key(prefix, ("s", str(number))) for number in (1, 2, 9, 10, 11, 99, 100, 10_000)]

    assert keys == sorted(keys)
    assert int(split_key(keys[3])[2]) == 10


@given(TEXTS, TEXTS, PARTS)
@example("a", 'a","n', ("n", "x"))
@example("a", "a\\", ("n",))
def test_no_key_of_a_run_begins_as_those_of_another(one: str, other: str, part: tuple[str, ...]) -> None:
    key = coordination_key(run_prefix(one), part)

    assert key.startswith(run_prefix(other)) == (one == other)


@given(st.lists(TEXTS, max_size=8), PARTS, PARTS)
def test_a_store_that_sorts_by_bytes_keeps_the_records_of_a_run_together(
    run_ids: list[str], one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    keys = sorted({coordination_key(run_prefix(run_id), part) for run_id in run_ids for part in (one, other)})
    owners = [split_key(key)[0] for key in keys]
    runs = [owner for number, owner in enumerate(owners) if number == 0 or owners[number - 1] != owner]

    assert len(runs) == len(set(runs))
