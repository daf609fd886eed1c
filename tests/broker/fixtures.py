"""Fixtures for tests that need Kafka. A conftest imports those that it needs from here, by name.

| Fixture | What |
|---|---|
| `broker` | bootstrap addresses of a broker that all tests share: never stop it, and use names of your own |
| `own_broker` | a `BrokerNode` that a test may kill, pause and start again |
| `cluster` | a `Cluster` of three such nodes |
| `app_name` | `app_name("orders")` is a name that nobody else uses |

Whatever a test leaves killed or paused runs again before the next one. Each is started at the first test that asks,
once a session however many conftests import it: what runs is in `session_brokers.py`, and the fixtures only ask.

Where there is none, tests skip, and the end of the session says why; with `CI` in the environment they fail.
"""

from __future__ import annotations

__all__ = ["AppName", "app_name", "broker", "cluster", "own_broker"]

import os
import uuid
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

from headrace_adapters.devbroker import BrokerNode, Cluster
from tests.broker.session_brokers import NoBroker, SessionBrokers, UnreachableBroker

AppName = Callable[[str], str]
Wanted = TypeVar("Wanted")

NO_CI = {"", "0", "false", "no"}


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> str:
    """Bootstrap addresses of a real broker, which other tests use at the same time."""
    brokers = SessionBrokers.of(pytestconfig)
    return _asked(brokers, brokers.shared)


@pytest.fixture(scope="session")
def own_broker(pytestconfig: pytest.Config) -> BrokerNode:
    """A broker of one node, which a test may kill, pause and start again."""
    brokers = SessionBrokers.of(pytestconfig)
    return _asked(brokers, brokers.own)


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """A broker of three nodes, each of which a test may kill, pause and start again."""
    brokers = SessionBrokers.of(pytestconfig)
    return _asked(brokers, brokers.three)


@pytest.fixture(scope="session")
def app_name() -> AppName:
    """Names of apps, and so of topics and groups, that no other test and no other session uses."""
    return lambda word: f"{word}-{uuid.uuid4().hex[:12]}"


def _asked(brokers: SessionBrokers, ask: Callable[[], Wanted]) -> Wanted:
    try:
        return ask()
    except NoBroker as error:
        if os.environ.get("CI", "").lower() in NO_CI:
            brokers.skipped(str(error))
            pytest.skip(str(error))
        _fail(f"{error} (CI is set, so a missing broker is a failure)")
    except UnreachableBroker as error:
        _fail(str(error))


def _fail(reason: str) -> NoReturn:
    pytest.fail(reason, pytrace=False)
