from __future__ import annotations

import pytest
from pydantic import SecretStr

from headrace.errors import DefinitionError
from headrace_adapters.kafka.server_url import parse_url


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://host", "host:9092"),
        ("kafka://host:19092", "host:19092"),
        ("KAFKA://host/", "host:9092"),
        ("kafka://a,b:9093,c.example.com", "a:9092,b:9093,c.example.com:9092"),
        ("kafka://[::1]", "[::1]:9092"),
        ("kafka://[2001:db8::7]:9093,b", "[2001:db8::7]:9093,b:9092"),
        ("kafka://[fe80::1%25eth0]:9093", "[fe80::1%eth0]:9093"),
        ("kafka://127.0.0.1:09092", "127.0.0.1:9092"),
    ],
)
def test_servers_get_the_usual_port_where_none_is_said(url: str, servers: str) -> None:
    assert parse_url(url) == (servers, None, None, {})


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("kafka://me:pass@host", "me", "pass"),
        ("kafka://me:p%40ss%3Aw%2Fo%3Fr%23d@host", "me", "p@ss:w/o?r#d"),
        ("kafka://me:p@ss@host", "me", "p@ss"),
        ("kafka://me:a:b@host", "me", "a:b"),
        ("kafka://m%C3%A9:p%C3%A4ss@host", "mé", "päss"),
        ("kafka://me:a+b@host", "me", "a+b"),
        ("kafka://me@host", "me", None),
    ],
)
def test_user_and_password_are_decoded(url: str, username: str, password: str | None) -> None:
    found = parse_url(url)

    assert found.servers == "host:9092"
    assert found.username == username
    assert found.password == (None if password is None else SecretStr(password))


def test_the_query_holds_options_by_name() -> None:
    found = parse_url("kafka://me:x@h?security.protocol=SASL_SSL&ssl.ca.location=%2Fetc%2Fca.pem&a%2Eb=1=2&c=a+b&d=")

    assert found.options == {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/etc/ca.pem",
        "a.b": "1=2",
        "c": "a+b",
        "d": "",
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host", "no URL of Kafka"),
        ("kafka:host", "no URL of Kafka"),
        ("kafka://", "empty host"),
        ("kafka://a,,b", "empty host"),
        ("kafka://a,", "empty host"),
        ("kafka://host:port", "port of 'host' in the URL of Kafka must be a number from 1 to 65535, not 'port'"),
        ("kafka://host:0", "not '0'"),
        ("kafka://host:65536", "not '65536'"),
        ("kafka://host:", "not ''"),
        ("kafka://host:9²", "not '9²'"),
        ("kafka://::1:9092", "stands in brackets"),
        ("kafka://[::1", "host that cannot be"),
        ("kafka://[::1]9092", "host that cannot be"),
        ("kafka://[host]:9092", "host that cannot be"),
        ("kafka://ho st", "host that cannot be, 'ho st'"),
        ("kafka://-host", "host that cannot be"),
        ("kafka://host/topic", "has a path"),
        ("kafka://host#part", "write %23"),
        ("kafka://@host", "no user before it"),
        ("kafka://me:@host", "empty password"),
        ("kafka://host?security.protocol", "must be key=value"),
        ("kafka://host?=1", "must be key=value"),
        ("kafka://host?a=1&", "must be key=value"),
        ("kafka://host?a=1&a=2", "says 'a' twice"),
        ("kafka://host?a=%zz", "value of 'a' in the URL of Kafka has a '%'"),
        ("kafka://host?a=%FF", "value of 'a' in the URL of Kafka is not UTF-8"),
        ("kafka://me%2:x@host", "the user in the URL of Kafka has a '%'"),
    ],
)
def test_what_cannot_be_is_told_by_its_part(url: str, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_url(url)

    assert told in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://me:hunter2@",
        "kafka://me:hunter2@host:port",
        "kafka://me:hunter2@host/path",
        "kafka://me:hunter2%zz@host",
        "kafka://me:hunter2%FF@host",
        "kafka://me:hunter2?x@host",
        "kafka://me:hunter2#x@host",
        "kafka://me:hunter2/x@host:x",
        "kafka://me:12?hunter2@host",
        "kafka://:hunter2@host",
        "kafka://host?sasl.password=hunter2%zz",
        "kafka://host?hunter2",
        "kafka://host?sasl.password=hunter2&sasl.password=hunter2",
        "http://me:hunter2@host",
    ],
)
def test_an_error_does_not_show_the_password(url: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_url(url)

    assert "hunter2" not in str(caught.value)


def test_what_was_parsed_does_not_show_the_password() -> None:
    found = parse_url("kafka://me:hunter2@host")

    assert "hunter2" not in repr(found)
    assert found.password is not None
    assert found.password.get_secret_value() == "hunter2"
