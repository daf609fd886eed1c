from __future__ import annotations

from pathlib import Path

import pytest

from headrace.errors import DefinitionError
from headrace_adapters.cli.options import client_app
from headrace_adapters.settings import load_settings


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADRACE_URL", "HEADRACE_APP", "HEADRACE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("url", ["embedded:./data", "embedded:///var/data", "EMBEDDED:x", "memory:"])
def test_where_one_app_lives_nobody_has_to_name_it(url: str) -> None:
    assert client_app(load_settings(url=url), None).name == "headrace"


def test_where_several_live_the_one_that_is_meant_has_to_be_named() -> None:
    url = "kafka://user:secret@host:9092"
    with pytest.raises(DefinitionError, match="--app NAME or HEADRACE_APP") as raised:
        client_app(load_settings(url=url), None)

    assert "secret" not in str(raised.value)
    assert client_app(load_settings(url=url), "orders").name == "orders"
    assert client_app(load_settings(url=url, app="shop"), None).name == "shop"
