from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from headrace.errors import DefinitionError
from headrace_adapters.kafka.client_options import client_options


def test_options_of_the_url_go_before_those_of_the_setting() -> None:
    assert client_options({"debug": "broker"}, {"debug": "all", "client.rack": "a"}) == {
        "debug": "broker",
        "client.rack": "a",
    }


def test_nested_tables_stand_for_names_with_dots() -> None:
    table = {"security": {"protocol": "SSL"}, "ssl": {"ca": {"location": "ca.pem"}}, "linger.ms": 3}

    assert client_options({}, table) == {"security.protocol": "SSL", "ssl.ca.location": "ca.pem", "linger.ms": "3"}


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (5, "5"), (0.5, "0.5"), ("x", "x"), (SecretStr("x"), "x")]
)
def test_values_become_text(value: Any, text: str) -> None:
    assert client_options({}, {"a": value}) == {"a": text}


@pytest.mark.parametrize("value", [None, [1], float("nan"), float("inf"), object, b"x"], ids=str)
def test_values_that_are_no_text_or_number_are_refused(value: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"option 'sasl\.password' of librdkafka must be text, a number, true or false"
    ):
        client_options({}, {"sasl.password": value})


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password", "ssl.key.password", "ssl.key.pem", "ssl.certificate.pem", "sasl.oauthbearer.client.secret",
        "ssl.keystore.password", "sasl.oauthbearer.assertion.private.key.passphrase", "SASL.PASSWORD", "my.token",
    ],
)  # fmt: skip
def test_secrets_do_not_show(name: str) -> None:
    options = client_options({}, {name: "hunter2"})

    assert "hunter2" not in repr(options)
    assert options[name].get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("enable.auto.commit", True, "positions move in the transaction"),
        ("isolation.level", "read_uncommitted", "aborted transaction"),
        ("transactional.id", "x", "slot of a worker"),
        ("group.id", "x", "set 'group'"),
        ("group.instance.id", "x", "set 'instance'"),
        ("group.protocol", "consumer", "set 'group_protocol'"),
        ("partition.assignment.strategy", "range", "one by one"),
        ("enable.idempotence", "false", "lost, doubled"),
        ("acks", 1, "only one broker"),
        ("request.required.acks", 0, "only one broker"),
        ("auto.offset.reset", "latest", "from the beginning"),
        ("bootstrap.servers", "h:1", "in the URL"),
        ("session.timeout.ms", 1, "set 'session_timeout_ms'"),
        ("transaction.timeout.ms", 1, "set 'transaction_timeout_ms'"),
        ("message.max.bytes", 1, "32 MiB"),
        ("allow.auto.create.topics", True, "by itself"),
    ],
)
def test_what_headrace_keeps_for_itself_is_refused_with_the_reason(name: str, value: Any, reason: str) -> None:
    for given in ({name: str(value).lower()}, {}), ({}, {name: value}):
        with pytest.raises(DefinitionError) as caught:
            client_options(*given)
        assert repr(name) in str(caught.value)
        assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acks", "all"), ("acks", -1), ("enable.idempotence", True), ("enable.auto.commit", False),
        ("isolation.level", "READ_COMMITTED"), ("partition.assignment.strategy", "cooperative-sticky"),
    ],
)  # fmt: skip
def test_what_says_the_same_as_headrace_is_let_pass_and_dropped(name: str, value: Any) -> None:
    assert client_options({}, {name: value}) == {}


@pytest.mark.parametrize("given", [[], "x", 5])
def test_a_setting_that_is_no_table_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match="setting 'kafka' must be a table"):
        client_options({}, given)


@pytest.mark.parametrize("name", ["", 5, None])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(DefinitionError, match="the name of an option must be text"):
        client_options({}, {name: "x"})


def test_options_do_not_change() -> None:
    options: Any = client_options({}, {"a": 1})

    with pytest.raises(TypeError):
        options["a"] = 2
