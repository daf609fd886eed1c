from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from headrace.errors import DefinitionError
from headrace.limits import Limits
from headrace_adapters.kafka.settings import RECORD_BYTES_MAX, TOPIC_BYTES_MAX, KafkaSettings, kafka_settings
from headrace_adapters.settings import Settings, load_settings

URL = "kafka://host:9092"
SECRET = "hunter2"


def test_a_url_alone_is_enough() -> None:
    settings = kafka_settings("orders", URL, {})

    assert (settings.servers, settings.app, settings.group) == ("host:9092", "orders", "orders")
    assert settings.partitions is None
    assert settings.partitions_new == 8
    assert settings.limits == Limits()
    assert settings.librdkafka == {}


def test_settings_and_limits_are_given_by_name_and_those_of_others_are_left_to_them() -> None:
    values = {"group": "g", "partitions": 3, "slots": 5, "value_bytes_max": 10, "state": "there", "sync": True, "url": URL}
    settings = kafka_settings("orders", URL, values)

    assert (settings.group, settings.partitions, settings.partitions_new) == ("g", 3, 3)
    assert (settings.slots, settings.limits.value_bytes_max, settings.state) == (5, 10, Path("there"))


def test_options_of_librdkafka_come_from_the_url_and_from_a_setting() -> None:
    values = {"kafka": {"client.rack": "a", "debug": "all"}}
    settings = kafka_settings("orders", f"{URL}?debug=broker", values)

    assert settings.librdkafka == {"client.rack": "a", "debug": "broker"}


def test_credentials_come_from_the_url_or_from_settings() -> None:
    in_url = kafka_settings("a", f"kafka://me:{SECRET}@host", {})
    in_settings = kafka_settings("a", URL, {"username": "me", "password": SecretStr(SECRET)})
    as_text = kafka_settings("a", URL, {"username": "me", "password": SECRET})
    in_both = kafka_settings("a", "kafka://me@host", {"password": SECRET})
    twice = kafka_settings("a", f"kafka://me:{SECRET}@host", {"username": "me", "password": SECRET})

    for settings in (in_url, in_settings, as_text, in_both, twice):
        assert (settings.username, settings.password) == ("me", SecretStr(SECRET))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"partitions": 0}, "'partitions' must be a whole number from 1 to 10000, not 0"),
        ({"partitions": True}, "'partitions'"),
        ({"replication": 0}, "'replication'"),
        ({"min_insync_replicas": 1.5}, "'min_insync_replicas'"),
        ({"standby": -1}, "'standby' must be a whole number from 0"),
        ({"http_port": 65_536}, "'http_port'"),
        ({"session_timeout_ms": 1}, "'session_timeout_ms'"),
        ({"heartbeat_ms": 0}, "'heartbeat_ms'"),
        ({"heartbeat_ms": 3_001}, "'heartbeat_ms' (3001) must be at most half of 'session_timeout_ms' (6000)"),
        ({"transaction_timeout_ms": "10s"}, "'transaction_timeout_ms'"),
        ({"slots": 0}, "'slots'"),
        ({"threads_max": 0}, "'threads_max'"),
        ({"processes_max": -1}, "'processes_max'"),
        ({"jobs_retention_ms": 0}, "'jobs_retention_ms' must be a duration, or -1"),
        ({"events_retention_ms": -2}, "'events_retention_ms'"),
        ({"dead_letters_retention_ms": "7d"}, "'dead_letters_retention_ms'"),
        ({"guarantee": "maybe"}, "'guarantee' must be exactly_once or at_least_once, not 'maybe'"),
        ({"group_protocol": "new"}, "'group_protocol' must be classic or consumer"),
        ({"group": ""}, "'group' must be text that is not empty"),
        ({"group": "a\nb"}, "'group'"),
        ({"http_host": " "}, "'http_host'"),
        ({"instance": "a/b"}, "'instance' names a folder"),
        ({"instance": ".."}, "'instance'"),
        ({"http_advertise": "worker:8080"}, "'http_advertise' must be the address"),
        ({"http_advertise": "http://"}, "'http_advertise'"),
        ({"http_advertise": "http://h:99999"}, "'http_advertise'"),
        ({"http_advertise": "http://a:b@h"}, "'http_advertise'"),
        ({"http_token": ""}, "'http_token' must be text"),
        ({"state": 5}, "'state' must be the path of a folder"),
        (
            {"replication": 2, "min_insync_replicas": 3},
            "'min_insync_replicas' (3) must not be larger than 'replication' (2)",
        ),
        ({"username": "me"}, "there is a username for Kafka and no password"),
        ({"password": SECRET}, "there is a password for Kafka and no username"),
        ({"runs_cached_max": 0}, "runs_cached_max must be at least 1"),
        ({"dedup_window_ms": "1d"}, "a setting cannot be"),
        ({"kafka": {"acks": 1}}, "'acks' of librdkafka is not for you to set"),
        ({"colour": 1, "brand": 2}, "unknown settings brand, colour: use some of "),
        ({"servers": "h", "app": "b", "limits": 1, "librdkafka": {}}, "unknown settings app, librdkafka, limits, servers"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_its_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        kafka_settings("orders", URL, values)

    assert named in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_unknown_setting_is_told_with_those_that_there_are() -> None:
    with pytest.raises(DefinitionError) as caught:
        kafka_settings("orders", URL, {"colour": 1})

    assert all(name in str(caught.value) for name in ("group_protocol", "kafka", "dedup_window_ms", "http_token"))


def test_a_setting_that_is_none_is_not_said() -> None:
    assert kafka_settings("orders", URL, {"instance": None, "group": None, "slots": None}) == kafka_settings(
        "orders", URL, {}
    )


@pytest.mark.parametrize(
    ("url", "values"),
    [
        (f"kafka://me:{SECRET}@host", {"password": "other"}),
        (f"kafka://me:{SECRET}@host", {"username": "you"}),
        (f"kafka://me:{SECRET}@host?sasl.username=me", {}),
        (f"kafka://me:{SECRET}@host", {"kafka": {"sasl": {"password": SECRET}}}),
    ],
)
def test_credentials_that_are_said_in_two_ways_are_refused(url: str, values: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="give one of them") as caught:
        kafka_settings("a", url, values)

    assert SECRET not in str(caught.value)


def test_no_secret_is_shown() -> None:
    settings = kafka_settings(
        "a",
        f"kafka://me:{SECRET}-1@host?ssl.key.password={SECRET}-2&ssl.key.pem={SECRET}-3",
        {"http_token": f"{SECRET}-4", "kafka": {"sasl.oauthbearer.client.secret": f"{SECRET}-5"}},
    )

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in f"{settings.librdkafka}"
    assert settings.http_token == SecretStr(f"{SECRET}-4")


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        kafka_settings("a", URL, {}).slots = 1  # type: ignore[misc]


def test_the_defaults_that_are_told_are_those_that_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HEADRACE_{name.upper()}", raising=False)
    told, taken = load_settings(), kafka_settings("a", URL, {})

    # The first three are not settings; the others are told where they are described, because they depend on something.
    apart = {"servers", "limits", "librdkafka", "app", "group", "partitions"}
    for field in fields(KafkaSettings):
        if field.name not in apart:
            assert getattr(told, field.name) == getattr(taken, field.name), field.name


def test_every_setting_by_name_reaches_the_adapter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Text, as it comes from an environment, of every setting that only Kafka has."""
    monkeypatch.chdir(tmp_path)
    said = {
        "GROUP": "g", "GROUP_PROTOCOL": "consumer", "INSTANCE": "w-1", "STANDBY": "1", "STATE": "there", "REPLICATION": "3",
        "MIN_INSYNC_REPLICAS": "2", "GUARANTEE": "at_least_once", "SESSION_TIMEOUT_MS": "10s", "HEARTBEAT_MS": "500",
        "TRANSACTION_TIMEOUT_MS": "20s", "JOBS_RETENTION_MS": "-1", "EVENTS_RETENTION_MS": "90d", "SYNC": "false",
        "DEAD_LETTERS_RETENTION_MS": "1d", "HTTP_HOST": "0.0.0.0", "HTTP_PORT": "8080", "HTTP_TOKEN": SECRET,
        "HTTP_ADVERTISE": "http://w-1:8080", "KAFKA": '{"security.protocol": "SSL", "ssl.key.password": "hunter2"}',
    }  # fmt: skip
    for name, value in said.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)

    settings = kafka_settings("a", URL, load_settings(url=URL).for_adapter())

    assert settings == KafkaSettings(
        servers="host:9092", app="a", group="g", group_protocol="consumer", instance="w-1", standby=1, state=Path("there"),
        replication=3, min_insync_replicas=2, guarantee="at_least_once", session_timeout_ms=10_000, heartbeat_ms=500,
        transaction_timeout_ms=20_000, jobs_retention_ms=-1, events_retention_ms=90 * 86_400_000,
        dead_letters_retention_ms=86_400_000, http_host="0.0.0.0", http_port=8080, http_token=SecretStr(SECRET),
        http_advertise="http://w-1:8080",
        librdkafka={"security.protocol": "SSL", "ssl.key.password": SecretStr(SECRET)},
    )  # fmt: skip


def test_the_largest_record_fits_a_topic_with_what_a_batch_puts_around_it() -> None:
    assert RECORD_BYTES_MAX + 1_024 < TOPIC_BYTES_MAX
