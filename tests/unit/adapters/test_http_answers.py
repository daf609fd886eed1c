from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contract.waiting import eventually
from tests.kafka.stub_owner import StubOwner

from headrace.adapter import Answer
from headrace_adapters.http import Answers, HttpServer, Unanswered, WorkerClient
from headrace_adapters.http.answers import REQUESTS_AT_ONCE


@pytest.fixture
def owner() -> StubOwner:
    return StubOwner()


@pytest.fixture
async def url(owner: StubOwner) -> AsyncIterator[str]:
    server = HttpServer()
    server.start(owner)
    yield server.url()
    await asyncio.to_thread(server.stop)


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    client = WorkerClient()
    made = Answers(client)
    yield made
    await made.close()
    await client.close()


async def test_an_answer_that_is_known_or_comes_is_given(owner: StubOwner, url: str, answers: Answers) -> None:
    owner.known["known"] = Answer("applied")
    waiting = asyncio.create_task(answers.of(url, "later", 5))

    assert await answers.of(url, "known", 5) == Answer("applied")
    await eventually(lambda: ["later"] in owner.asked)
    owner.known["later"] = Answer("ignored", "so")
    assert await asyncio.wait_for(waiting, 5) == Answer("ignored", "so")


async def test_everybody_who_asks_at_once_is_asked_for_together(owner: StubOwner, url: str, answers: Answers) -> None:
    owner.says = Answer("applied")
    said = await asyncio.gather(*(answers.of(url, f"r{number}", 5) for number in range(900)))

    assert said == [Answer("applied")] * 900
    assert len(owner.asked) == 2


async def test_who_comes_while_others_wait_is_asked_for_at_once(owner: StubOwner, url: str, answers: Answers) -> None:
    """As many as there are places wait for answers that do not come; they give up a place within a second."""
    stuck = []
    for number in range(REQUESTS_AT_ONCE - 1):
        stuck.append(asyncio.create_task(answers.of(url, f"never{number}", 10)))
        await eventually(lambda: len(owner.asked) == len(stuck))
    owner.known["mine"] = Answer("applied")

    assert await asyncio.wait_for(answers.of(url, "mine", 5), 0.9) == Answer("applied")
    for task in stuck:
        task.cancel()


async def test_an_answer_that_does_not_come_is_waited_for_only_so_long(url: str, answers: Answers) -> None:
    assert await answers.of(url, "never", 0.1) is None
    assert await asyncio.gather(answers.of(url, "never", 0.01), answers.of(url, "never2", 0.1)) == [None, None]


async def test_who_cannot_be_reached_is_told_to_everybody_who_waits(answers: Answers) -> None:
    asked = [answers.of("http://127.0.0.1:1", f"r{number}", 5) for number in range(3)]
    said = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(it) for it in said] == [Unanswered] * 3


async def test_workers_that_are_gone_are_forgotten_when_others_are_asked(
    owner: StubOwner, url: str, answers: Answers
) -> None:
    owner.says = Answer("applied")
    for port in range(2, 5):
        with pytest.raises(Unanswered):
            await answers.of(f"http://127.0.0.1:{port}", "r", 5)
    await answers.of(url, "r", 5)

    assert url in answers._by_url
    assert len(answers._by_url) <= 2


async def test_who_waits_when_it_is_closed_is_cancelled(owner: StubOwner, url: str, answers: Answers) -> None:
    waiting = asyncio.create_task(answers.of(url, "never", 60))
    await eventually(lambda: owner.asked)
    await answers.close()

    with pytest.raises(asyncio.CancelledError):
        await waiting
