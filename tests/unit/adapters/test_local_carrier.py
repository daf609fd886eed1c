"""The carrier over one key-value store: partitions, the job log, blueprints. Commits are under contract elsewhere."""

from __future__ import annotations

import pytest

from headrace import commands as c
from headrace.blueprint import Blueprint, from_json
from headrace.errors import RecordRefused, StoreError
from headrace.limits import Limits
from headrace_adapters.local.carrier import (
    LocalCarrier,
    append_jobs,
    fixed_partitions,
    next_number,
    save_blueprints,
    stored_blueprints,
)
from headrace_adapters.local.layout import BLUEPRINT, JOB, number_key
from headrace_adapters.memory import MemoryStore


def blueprint(version: str) -> Blueprint:
    return from_json({"id": "f", "nodes": [{"id": "a", "uses": "f"}], "edges": [], "metadata": {"version": version}})


def test_the_number_of_partitions_is_the_first_one_that_was_asked_for() -> None:
    store = MemoryStore()
    assert [fixed_partitions(store, wanted) for wanted in (4, 8, 1)] == [4, 4, 4]


def test_numbers_go_on_from_the_last_record() -> None:
    store = MemoryStore()
    assert next_number(store, JOB) == 0
    assert next_number(store, JOB, first=True) == 0
    assert next_number(store, JOB, start=7) == 7
    store.write([(number_key(JOB, number), b"") for number in (3, 4, 9)])
    assert next_number(store, JOB) == 10
    assert next_number(store, JOB, first=True) == 3
    assert next_number(store, JOB, start=9) == 10
    assert next_number(store, JOB, start=12) == 12


def test_whoever_knows_where_the_job_log_ends_need_not_look_for_it() -> None:
    store = MemoryStore()
    end = append_jobs(store, [c.Cancel("r1"), c.Cancel("r2")])
    assert end == 2
    assert append_jobs(store, [c.Cancel("r3")]) == 3, "somebody else appends"
    assert append_jobs(store, [c.Cancel("r4")], end) == 4, "and is not overwritten"

    jobs = LocalCarrier(store, Limits(), 1).poll(10)
    assert [job.command.run_id for job in jobs] == ["r1", "r2", "r3", "r4"]


def test_a_command_that_no_record_can_hold_is_not_appended_and_neither_are_those_with_it() -> None:
    store = MemoryStore()
    with pytest.raises(RecordRefused):
        append_jobs(store, [c.Cancel("fine"), c.Cancel("\ud800")])
    assert len(store) == 0


def test_polling_gives_no_more_than_asked_for_and_goes_on() -> None:
    store = MemoryStore()
    append_jobs(store, [c.Cancel(f"r{number}") for number in range(5)])
    carrier = LocalCarrier(store, Limits(), 1)

    assert [[job.command.run_id for job in carrier.poll(2)] for _ in range(4)] == [["r0", "r1"], ["r2", "r3"], ["r4"], []]


def test_a_job_above_the_limit_of_values_becomes_a_dead_letter() -> None:
    store = MemoryStore()
    append_jobs(store, [c.Signal("r", "e", b'"' + b"x" * 100 + b'"'), c.Cancel("r")])
    jobs = LocalCarrier(store, Limits(value_bytes_max=50), 1).poll(10)

    assert [job.command for job in jobs] == [c.Cancel("r")]


def test_blueprints_are_kept_in_the_order_in_which_they_came() -> None:
    store = MemoryStore()
    save_blueprints(store, [blueprint("2"), blueprint("1")])
    save_blueprints(store, [])
    save_blueprints(store, [blueprint("3")])

    assert stored_blueprints(store) == [blueprint("2"), blueprint("1"), blueprint("3")]


@pytest.mark.parametrize("record", [b"{", b"\xff", b"[]", b'{"id": 5}'])
def test_a_blueprint_that_cannot_be_read_is_an_error_of_the_store(record: bytes) -> None:
    store = MemoryStore()
    save_blueprints(store, [blueprint("1")])
    store.write([(number_key(BLUEPRINT, 1), record)])

    with pytest.raises(StoreError, match=r"(?s)blueprint 1 of the store cannot be read.*go on from a backup"):
        stored_blueprints(store)
