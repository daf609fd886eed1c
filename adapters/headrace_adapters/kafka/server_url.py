"""The URL of a Kafka cluster: ``kafka://[user:password@]host[:9092][,host2[:port]...][?librdkafka.key=value&...]``."""

from __future__ import annotations

__all__ = ["ServerUrl", "parse_url"]

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote

from pydantic import SecretStr

from headrace.errors import DefinitionError

PORT_DEFAULT = 9092

_EXPECTED = "expected kafka://[user:password@]host[:9092][,host2:9092][?key=value&...]"
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(%25[A-Za-z0-9_.-]+)?\]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class ServerUrl(NamedTuple):
    """What a URL says. *servers* is as librdkafka takes it; *options* are in the order of the query."""

    servers: str
    username: str | None
    password: SecretStr | None
    options: Mapping[str, str]


def parse_url(url: str) -> ServerUrl:
    """The parts of *url*. Raises :class:`DefinitionError`, which never shows the password or the query's values."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() != "kafka" or not separator:
        raise DefinitionError(f"this is no URL of Kafka: {_EXPECTED}")
    if "#" in rest:
        raise DefinitionError(f"a URL of Kafka has no part behind '#' (write %23 for this sign in a password): {_EXPECTED}")
    # Whatever a user or a password may be, hosts hold no '@'.
    place, _, query = rest.partition("?")
    credentials, at, hosts = place.rpartition("@")
    if not at and "@" in query and ":" in place and not _are_servers(place):
        raise DefinitionError(f"a '?' in a user or a password of a URL is written %3F: {_EXPECTED}")
    username, password = _credentials(credentials) if at else (None, None)
    hosts = hosts.removesuffix("/")
    if "/" in hosts:
        raise DefinitionError(f"the URL of Kafka has a path ('/...'), which means nothing there: {_EXPECTED}")
    servers = ",".join(_server(each) for each in hosts.split(","))
    return ServerUrl(servers, username, password, _options(query))


def _credentials(text: str) -> tuple[str, SecretStr | None]:
    name, colon, secret = text.partition(":")
    if not name:
        raise DefinitionError(f"the URL of Kafka has an '@' and no user before it: {_EXPECTED}")
    if colon and not secret:
        raise DefinitionError(f"the URL of Kafka has an empty password behind the user: {_EXPECTED}")
    password = SecretStr(_unescaped(secret, "the password")) if colon else None
    return _unescaped(name, "the user"), password


def _are_servers(text: str) -> bool:
    try:
        return all(_server(each) for each in text.split(","))
    except DefinitionError:
        return False


def _server(text: str) -> str:
    """``host:port``. Raises :class:`DefinitionError`."""
    if not text:
        raise DefinitionError(f"the URL of Kafka has an empty host: {_EXPECTED}")
    if text.startswith("["):
        host, bracket, port = text.partition("]")
        host += bracket
        good = _IPV6.fullmatch(host) is not None and (not port or port.startswith(":"))
        port = port[1:] if port else str(PORT_DEFAULT)
    else:
        if text.count(":") > 1:
            raise DefinitionError(f"an IPv6 address in the URL of Kafka stands in brackets, as [::1]:9092, not {text!r}")
        host, colon, port = text.partition(":")
        good = _HOST.fullmatch(host) is not None
        port = port if colon else str(PORT_DEFAULT)
    if not good:
        raise DefinitionError(f"the URL of Kafka has a host that cannot be, {host!r}: {_EXPECTED}")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65_535):
        raise DefinitionError(f"the port of {host!r} in the URL of Kafka must be a number from 1 to 65535, not {port!r}")
    return f"{host.replace('%25', '%')}:{int(port)}"


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        name = _unescaped(name, "a name in the query")
        if not name or not equals:
            raise DefinitionError(f"the query of the URL of Kafka must be key=value&key=value: {_EXPECTED}")
        if name in options:
            raise DefinitionError(f"the URL of Kafka says {name!r} twice: say it once")
        # A plus stays one: this is no form, and keys in base64 have it.
        options[name] = _unescaped(value, f"the value of {name!r}")
    return options


def _unescaped(text: str, what: str) -> str:
    if _BAD_ESCAPE.search(text):
        raise DefinitionError(f"{what} in the URL of Kafka has a '%' without two hexadecimal digits: write %25 for it")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise DefinitionError(f"{what} in the URL of Kafka is not UTF-8 when it is decoded") from None
