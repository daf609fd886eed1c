from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from headrace.errors import DefinitionError
from headrace.limits import Limits
from headrace_adapters.local.worker import Settings as LocalSettings
from headrace_adapters.settings import Settings, is_secret, load_settings, resolve, shown_url


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HEADRACE_{name.upper()}", raising=False)
    monkeypatch.delenv("HEADRACE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)


def write_config(text: str, name: str = "headrace.toml") -> None:
    Path(name).write_text(text, encoding="utf-8")


def test_what_nobody_sets_is_left_to_the_adapter() -> None:
    settings = load_settings()

    assert settings.url == "embedded:./data"
    assert settings.for_adapter() == {}


def test_an_argument_goes_before_the_environment_and_that_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config('url = "file:"\nslots = 1\nthreads_max = 1\n')
    monkeypatch.setenv("HEADRACE_SLOTS", "2")
    monkeypatch.setenv("HEADRACE_URL", "environment:")

    settings = load_settings(url="argument:", partitions=None)

    assert (settings.url, settings.slots, settings.threads_max, settings.partitions) == ("argument:", 2, 1, 4)
    assert settings.for_adapter() == {"slots": 2, "threads_max": 1}


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_SLOTS", "")

    assert load_settings().slots == 1_000


def test_another_config_file_may_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("slots = 1\n")
    write_config("slots = 7\n", "mine.toml")
    monkeypatch.setenv("HEADRACE_CONFIG", "mine.toml")

    assert load_settings().slots == 7


def test_a_config_file_that_is_named_and_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_CONFIG", "gone.toml")

    with pytest.raises(DefinitionError, match=r"gone\.toml cannot be read"):
        load_settings()


def test_a_config_file_that_is_no_toml_is_an_error() -> None:
    write_config("slots = = 3\n")

    with pytest.raises(DefinitionError, match=r"headrace\.toml cannot be read: .*line 1"):
        load_settings()


@pytest.mark.parametrize(
    ("value", "expected"), [(500, 500), ("500", 500), ("2d", 172_800_000), ("PT1H", 3_600_000), (" 7 ", 7)]
)
def test_durations_are_ms_or_text(value: object, expected: int) -> None:
    assert load_settings(dedup_window_ms=value).dedup_window_ms == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"slots": "many"}, "setting 'slots' is 'many' (as it was given): input should be a valid integer"),
        ({"partitions": 0}, "setting 'partitions' is 0 (as it was given): input should be greater than 0"),
        ({"processes_max": -1}, "setting 'processes_max' is -1"),
        ({"grace": "soon"}, "setting 'grace' is 'soon' (as it was given): 'soon' is not a duration"),
        ({"url": ""}, "setting 'url' is ''"),
        ({"speed": 3}, "there is no setting 'speed' (as it was given); there are url, app, grace"),
    ],
)
def test_a_setting_that_cannot_be_is_told_with_its_name_and_what_was_expected(given: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_settings(**given)

    assert told in str(caught.value)


def test_all_settings_that_cannot_be_are_told_at_once_with_where_they_come_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_config("slots = 0\nspeed = 3\n")
    monkeypatch.setenv("HEADRACE_PARTITIONS", "few")

    with pytest.raises(DefinitionError) as caught:
        load_settings()

    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert any("'partitions' is 'few' (environment: HEADRACE_PARTITIONS)" in line for line in lines)
    assert any("'slots' is 0 (config file: headrace.toml)" in line for line in lines)
    assert any("no setting 'speed' (config file: headrace.toml)" in line for line in lines)


def test_a_secret_is_never_shown() -> None:
    settings = load_settings(url="kafka://me:hunter2@host:9092", password="hunter3")

    assert "hunter" not in repr(settings)
    assert "hunter" not in str(settings)
    with pytest.raises(DefinitionError) as caught:
        load_settings(password=["hunter4"])
    assert "hunter4" not in str(caught.value)


def test_credentials_are_given_to_adapters_with_a_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PASSWORD", "hunter2")
    monkeypatch.setenv("HEADRACE_USERNAME", "me")

    served = load_settings(url="kafka://host:9092").for_adapter()

    assert served == {"username": "me", "password": SecretStr("hunter2")}
    assert load_settings(url="embedded:./data").for_adapter() == {}


SERVERS_ONLY: dict[str, Any] = {
    "username": "me", "password": SecretStr("hunter2"), "kafka": {"security.protocol": "SSL"}, "group": "g",
    "group_protocol": "consumer", "instance": "w1", "standby": 1, "state": Path("there"), "guarantee": "at_least_once",
    "replication": 3, "min_insync_replicas": 2, "session_timeout_ms": 9_000, "heartbeat_ms": 500,
    "transaction_timeout_ms": 20_000, "jobs_retention_ms": -1, "events_retention_ms": 1, "dead_letters_retention_ms": 2,
    "http_host": "0.0.0.0", "http_port": 80, "http_advertise": "http://w:80", "http_token": SecretStr("hunter3"),
}  # fmt: skip


@pytest.mark.parametrize("url", ["embedded:./data", "memory:", "embedded://data", "EMBEDDED://data", "theirs:x"])
def test_settings_of_servers_are_not_given_to_adapters_without_one(url: str) -> None:
    assert load_settings(url=url, sync=False, slots=3, **SERVERS_ONLY).for_adapter() == {"sync": False, "slots": 3}


def test_settings_of_a_disk_are_not_given_to_adapters_with_a_server() -> None:
    settings = load_settings(url="kafka://host", sync=False, slots=3, partitions=5, **SERVERS_ONLY)

    assert settings.for_adapter() == {**SERVERS_ONLY, "slots": 3, "partitions": 5}


@pytest.mark.parametrize(("value", "expected"), [(-1, -1), ("-1", -1), ("30d", 30 * 86_400_000), (5, 5)])
def test_records_are_kept_for_a_duration_or_for_ever(value: Any, expected: int) -> None:
    assert load_settings(events_retention_ms=value).events_retention_ms == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"events_retention_ms": -2}, "setting 'events_retention_ms' is -2"),
        ({"group_protocol": "new"}, "setting 'group_protocol' is 'new' (as it was given): input should be 'classic'"),
        ({"guarantee": "maybe"}, "setting 'guarantee' is 'maybe'"),
        ({"standby": -1}, "setting 'standby' is -1"),
        ({"http_port": 65_536}, "setting 'http_port' is 65536"),
        ({"kafka": ["sasl.password=hunter2"]}, "setting 'kafka' (as it was given): input should be a valid dictionary"),
        ({"http_token": ["hunter2"]}, "setting 'http_token' (as it was given)"),
    ],
)
def test_a_setting_of_a_server_that_cannot_be_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_settings(**given)

    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_options_of_a_client_come_as_a_table_or_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config('[kafka]\nsecurity.protocol = "SSL"\n"client.rack" = "a"\n')
    assert load_settings().kafka == {"security.protocol": "SSL", "client.rack": "a"}

    monkeypatch.setenv("HEADRACE_KAFKA", '{"debug": "all"}')
    assert load_settings().kafka["debug"] == "all"


@pytest.mark.parametrize("text", ["{'a': 'hunter2'}", "hunter2", "[]"])
def test_options_that_are_no_json_object_are_refused_and_not_shown(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_KAFKA", text)

    with pytest.raises(DefinitionError, match=r"'kafka'.*HEADRACE_KAFKA") as caught:
        load_settings()

    assert "hunter2" not in str(caught.value)


def test_secrets_among_the_options_of_a_client_are_never_shown() -> None:
    write_config('[kafka]\nsasl.password = "hunter2"\n[kafka.ssl.key]\npem = "hunter3"\npassword = 12345\n')
    settings = load_settings(url="kafka://host?ssl.key.password=hunter4", http_token="hunter5")

    for text in (repr(settings), str(settings), f"{settings.for_adapter()}"):
        assert "hunter" not in text
        assert "12345" not in text
    assert settings.kafka["ssl.key.pem"] == SecretStr("hunter3")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sasl.password", True), ("ssl.key.pem", True), ("a.SECRET", True), ("http_token", True), ("group.id", False)],
)
def test_a_name_tells_a_secret(name: str, expected: bool) -> None:
    assert is_secret(name) is expected


def test_settings_do_not_change() -> None:
    settings = load_settings()

    with pytest.raises(ValidationError):
        settings.slots = 3  # type: ignore[misc]


def test_a_program_gets_url_and_settings_with_its_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config('url = "memory:"\nslots = 3\nthreads_max = 4\n')

    assert resolve(None, {"threads_max": 5}) == ("memory:", {"slots": 3, "threads_max": 5})
    assert resolve("embedded:x", {})[0] == "embedded:x"


def test_a_setting_of_somebody_elses_adapter_is_passed_on() -> None:
    assert resolve("theirs:", {"colour": "red"}) == ("theirs:", {"colour": "red"})


def test_a_program_is_told_of_a_setting_that_cannot_be() -> None:
    with pytest.raises(DefinitionError, match="slots"):
        resolve(None, {"slots": "many"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("embedded:./data", "embedded:./data"),
        ("kafka://host:9092,other:9092", "kafka://host:9092,other:9092"),
        ("kafka://me:secret@host:9092", "kafka://me:***@host:9092"),
        ("kafka://me@host", "kafka://me@host"),
        ("kafka://me:a@b@host", "kafka://me:***@host"),
        ("kafka://me:a/b@host", "kafka://me:***@host"),
        ("kafka://me:a?b@host", "kafka://me:***@host"),
        ("kafka://host?sasl.password=secret&a=b", "kafka://host?sasl.password=***&a=b"),
        ("kafka://host?a=b&ssl%2Ekey%2Epass%77ord=secret", "kafka://host?a=b&ssl%2Ekey%2Epass%77ord=***"),
    ],
)
def test_a_password_in_a_url_is_not_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


def test_the_defaults_that_are_told_are_those_that_adapters_take() -> None:
    told = load_settings()
    taken = LocalSettings()

    for field in fields(LocalSettings):
        if field.name != "limits":
            assert getattr(told, field.name) == getattr(taken, field.name), field.name
    for field in fields(Limits):
        assert getattr(told, field.name) == getattr(taken.limits, field.name), field.name


def test_the_documentation_names_every_setting() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")

    assert [name for name in Settings.model_fields if f"`{name}`" not in page] == []
