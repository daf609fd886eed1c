from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from headrace.adapter import Answer
from headrace.bulk import SUBMITTED_MAX, submit_each
from headrace.commands import Command, Start
from headrace.errors import RecordRefused, StartsFailed, StoreError


class Server:
    """Takes commands when it is told to; counts how many are under way at most."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.under_way = 0
        self.most = 0
        self.answers: dict[str, Answer | Exception] = {}

    async def submit(self, command: Command) -> Answer:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        self.taken.append(command.run_id)
        answer = self.answers.get(command.run_id, Answer("applied"))
        if isinstance(answer, Exception):
            raise answer
        return answer


def starts(number: int) -> Iterator[Start]:
    return (Start(f"r{index}", "f") for index in range(number))


async def test_all_are_taken_and_at_most_so_many_are_under_way() -> None:
    server = Server()

    assert await submit_each(server.submit, starts(100), 7) == 100
    assert sorted(server.taken) == sorted(f"r{index}" for index in range(100))
    assert server.most == 7


async def test_a_source_may_be_asynchronous_or_empty() -> None:
    server = Server()

    async def source() -> AsyncIterator[Start]:
        for start in starts(3):
            await asyncio.sleep(0)
            yield start

    assert await submit_each(server.submit, source(), 10_000) == 3
    assert await submit_each(server.submit, [], 10_000) == 0
    assert server.taken == ["r0", "r1", "r2"]


async def test_no_more_tasks_are_made_than_are_of_use() -> None:
    server = Server()
    await submit_each(server.submit, starts(SUBMITTED_MAX * 4), 10_000)

    assert server.most == SUBMITTED_MAX


async def test_a_bound_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        await submit_each(Server().submit, [], 0)


async def test_what_failed_is_named_and_nothing_is_read_after_it() -> None:
    server = Server()
    server.answers = {"r3": StoreError("the disk is full"), "r4": Answer("refused", "it cannot be read")}
    read = 0

    def source() -> Iterator[Start]:
        nonlocal read
        for start in starts(1_000):
            read += 1
            yield start

    with pytest.raises(
        StartsFailed, match=r"2 of 5 starts failed \('r3', 'r4'\): the disk is full .*other 3 are durable"
    ) as raised:
        await submit_each(server.submit, source(), 5)

    assert raised.value.run_ids == ("r3", "r4")
    assert read < 10


async def test_of_many_that_failed_some_are_told_and_all_are_named() -> None:
    server = Server()
    server.answers = {f"r{index}": RecordRefused("too long") for index in range(20)}

    with pytest.raises(StartsFailed, match=r"\('r0', 'r1', 'r2', 'r3', 'r4', \.\.\.\)") as raised:
        await submit_each(server.submit, starts(20), 20)

    assert set(raised.value.run_ids) == set(server.answers)


async def test_a_defect_is_raised_as_it_is_when_the_others_have_ended() -> None:
    server = Server()
    server.answers = {"r1": KeyError("mine")}

    with pytest.raises(KeyError, match="mine"):
        await submit_each(server.submit, starts(4), 10)

    assert server.taken == ["r0", "r1", "r2", "r3"]


async def test_what_the_source_raises_comes_out_after_those_under_way() -> None:
    server = Server()

    def source() -> Iterator[Start]:
        yield from starts(4)
        raise LookupError("no such file")

    with pytest.raises(LookupError, match="no such file"):
        await submit_each(server.submit, source(), 10)

    assert server.taken == ["r0", "r1", "r2", "r3"]
