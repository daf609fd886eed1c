from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.errors import StoreError
from headrace_adapters.kafka.connection import WatchedAdmin, admin, open_admin
from headrace_adapters.kafka.failures import _KINDS, redacted, request_error, store_error, timed_out
from headrace_adapters.kafka.settings import kafka_settings

SECRET = "hunter2"
SETTINGS = kafka_settings(
    "orders", f"kafka://me:{SECRET}@h:9092,h2?ssl.key.password={SECRET}-too", {"http_token": f"token-{SECRET}", "group": "g"}
)


@pytest.mark.parametrize(
    ("code", "what", "to_do"),
    [
        (KafkaError._TRANSPORT, "the servers are not reached", "advertised.listeners"),
        (KafkaError._ALL_BROKERS_DOWN, "the servers are not reached", "see that they run"),
        (KafkaError._RESOLVE, "the servers are not reached", "see that they run"),
        (KafkaError._TIMED_OUT, "no answer in time", "try again"),
        (KafkaError._SSL, "no secure connection", "ssl.ca.location"),
        (KafkaError._AUTHENTICATION, "refused the user", "check user and password"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "refused the user", "sasl.mechanism"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "may not do that", "topics that begin with 'orders.'"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "may not do that", "groups that begin with 'g'"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "may not do that", "transactional ids that begin with 'orders.'"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, "a topic is missing", "headrace topics check --app orders"),
        (KafkaError.MSG_SIZE_TOO_LARGE, "a record is too large", "max.message.bytes"),
        (KafkaError._FENCED, "another process has taken this one's place", "nothing is lost"),
        (KafkaError.FENCED_INSTANCE_ID, "another process has taken this one's place", "'instance'"),
        (KafkaError.NOT_ENOUGH_REPLICAS, "too few copies", "bring the missing brokers back"),
        (KafkaError.INVALID_SESSION_TIMEOUT, "session timeout", "'session_timeout_ms'"),
        (KafkaError.INVALID_TRANSACTION_TIMEOUT, "transaction timeout", "'transaction_timeout_ms'"),
        (KafkaError.INCONSISTENT_GROUP_PROTOCOL, "members of group 'g'", "'group_protocol'"),
        (KafkaError.UNSUPPORTED_VERSION, "too old", "Kafka 2.5"),
        (KafkaError.INVALID_REPLICATION_FACTOR, "topic of this shape", "'replication'"),
        (KafkaError._AUTO_OFFSET_RESET, "not there any more", "retention"),
        (KafkaError.UNKNOWN, "Kafka refused", "logs of the brokers"),
    ],
)
def test_an_error_says_what_failed_where_and_what_to_do(code: int, what: str, to_do: str) -> None:
    for error in (KafkaError(code, "words of the client"), KafkaException(KafkaError(code, "words of the client"))):
        told = store_error("creating topics", error, SETTINGS)

        assert isinstance(told, StoreError)
        text = str(told)
        assert text.startswith("creating topics failed at Kafka (h:9092,h2:9092): ")
        assert what in text
        assert to_do in text
        assert KafkaError(code).name() in text
        assert "words of the client" in text


def test_a_request_that_is_not_answered_is_told_with_what_a_watched_client_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = open_admin(admin(SETTINGS))
    monkeypatch.setattr(WatchedAdmin, "trouble", lambda self: KafkaError(KafkaError._AUTHENTICATION, "no such user"))

    late = TimeoutError()
    assert "refused the user (_AUTHENTICATION: no such user)" in str(request_error(watched, SETTINGS, "asking", late))
    assert "no answer in time (_TIMED_OUT" in str(request_error(object(), SETTINGS, "asking", late))
    refused = KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
    assert "a topic is missing" in str(request_error(watched, SETTINGS, "asking", refused))


def test_every_code_has_one_meaning() -> None:
    names = [name for kind in _KINDS for name in kind.codes]

    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(KafkaError, name)] == []


def test_no_text_is_left_with_a_gap() -> None:
    for name in {name for kind in _KINDS for name in kind.codes}:
        assert "{" not in str(store_error("reading", KafkaError(getattr(KafkaError, name)), SETTINGS))


def test_what_the_connections_said_explains_a_silence() -> None:
    silence = KafkaException(KafkaError(KafkaError._TIMED_OUT))
    refused = KafkaError(KafkaError._AUTHENTICATION, "wrong password")

    assert "refused the user (_AUTHENTICATION: wrong password)" in str(store_error("looking", silence, SETTINGS, refused))
    assert "no answer in time" in str(store_error("looking", silence, SETTINGS, None))


def test_what_the_connections_said_before_does_not_hide_another_error() -> None:
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    before = KafkaError(KafkaError._TRANSPORT, "an hour ago")

    assert "an hour ago" not in str(store_error("looking", error, SETTINGS, before))


def test_an_exception_without_a_code_is_told_as_it_is() -> None:
    assert str(store_error("reading", KafkaException("odd"), SETTINGS)) == "reading failed at Kafka (h:9092,h2:9092): odd"


@pytest.mark.parametrize(
    ("code", "expected"),
    [(KafkaError._TIMED_OUT, True), (KafkaError._TRANSPORT, True), (KafkaError._FENCED, False), (KafkaError.UNKNOWN, False)],
)
def test_silence_is_told_from_an_answer(code: int, expected: bool) -> None:
    assert timed_out(KafkaError(code)) is expected
    assert timed_out(KafkaException(KafkaError(code))) is expected


def test_no_secret_is_in_an_error() -> None:
    said = f"invalid credentials me:{SECRET} key {SECRET}-too and token-{SECRET}"

    assert SECRET not in redacted(said, SETTINGS)
    assert SECRET not in str(store_error("reading", KafkaError(KafkaError._AUTHENTICATION, said), SETTINGS))
    assert SECRET not in str(store_error("reading", KafkaException(said), SETTINGS))


@pytest.mark.parametrize("code", [KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID])
def test_what_a_consumer_only_calls_fatal_is_told_by_its_text(code: int) -> None:
    told = KafkaError(KafkaError._FATAL, f"Fatal consumer error: {KafkaError(code).str()}")

    assert "'instance'" in str(store_error("reading jobs", told, SETTINGS))
