from __future__ import annotations

from pathlib import Path

import pytest

from headrace_adapters.devbroker.settings import FAST_COMPACTION, node_settings, properties_text

ONE, THREE = {1: 101}, {1: 101, 2: 102, 3: 103}


def settings_of(number: int, controller_ports: dict[int, int], **overrides: str) -> dict[str, str]:
    folder = Path("data")
    return node_settings(number, port=90 + number, controller_ports=controller_ports, folder=folder, overrides=overrides)


def test_a_node_alone_is_its_own_quorum_and_replicates_nothing() -> None:
    settings = settings_of(1, ONE)

    assert settings["controller.quorum.voters"] == "1@127.0.0.1:101"
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:91,CONTROLLER://127.0.0.1:101"
    assert settings["offsets.topic.replication.factor"] == "1"
    assert settings["transaction.state.log.replication.factor"] == "1"
    assert settings["transaction.state.log.min.isr"] == "1"


def test_three_nodes_know_each_other_and_one_of_them_may_fail() -> None:
    nodes = [settings_of(number, THREE) for number in THREE]

    assert {node["controller.quorum.voters"] for node in nodes} == {"1@127.0.0.1:101,2@127.0.0.1:102,3@127.0.0.1:103"}
    assert [node["node.id"] for node in nodes] == ["1", "2", "3"]
    assert [node["advertised.listeners"] for node in nodes] == [f"PLAINTEXT://127.0.0.1:9{n}" for n in (1, 2, 3)]
    assert {node["transaction.state.log.replication.factor"] for node in nodes} == {"3"}
    assert {node["transaction.state.log.min.isr"] for node in nodes} == {"2"}


def test_a_topic_that_nobody_created_is_not_made_up() -> None:
    assert settings_of(1, ONE)["auto.create.topics.enable"] == "false"


def test_what_the_caller_says_goes_before() -> None:
    settings = settings_of(1, ONE, **{"auto.create.topics.enable": "true", "message.max.bytes": "99"}, **FAST_COMPACTION)

    assert settings["auto.create.topics.enable"] == "true"
    assert settings["message.max.bytes"] == "99"
    assert settings["log.roll.ms"] == FAST_COMPACTION["log.roll.ms"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("plain", "plain"), ("C:\\data", "C:\\\\data"), ("Übung", "\\u00dcbung"), ("😀", "\\ud83d\\ude00"), ("a b=c", "a b=c")],
)
def test_properties_are_written_as_java_reads_them(value: str, expected: str) -> None:
    assert properties_text({"b": "2", "a": value}) == f"a={expected}\nb=2\n"
