"""Secrets stay where they are: dependencies, the environment and settings are in no record, log, status or error."""

from __future__ import annotations

import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace import App, Context, Flow
from headrace import commands as c
from headrace_adapters.cli.main import main
from headrace_adapters.rocks import RocksStore
from headrace_adapters.settings import Settings, load_settings
from tests.contract.places import EmbeddedPlace, MemoryPlace, Place
from tests.contract.waiting import RESULT_S

SECRET = "S3CRET-zq81"


class Vault:
    """A dependency whose representation tells all."""

    def __repr__(self) -> str:
        return f"Vault(password={SECRET!r})"


def app() -> App:
    def use(ctx: Context) -> str:
        vault, token = ctx.dependencies["vault"], ctx.dependencies["token"]
        assert SECRET in repr(vault)
        assert token
        ctx.log.info("used the vault")
        if ctx.attempt == 1:
            raise RuntimeError("the text of an error is the author's")
        return "used"

    made = App("secrets", {"vault": Vault(), "token": SECRET, SECRET: 1})
    made.add(Flow("use").node("use", use, max_retries=2).wait("ask", event="e", after="use"))
    made.add(Flow("fail").node("typo", lambda ctx: ctx.dependencies["tokn"]))
    return made


def everything_in(place: Place) -> bytes:
    """All bytes that the store holds."""
    if isinstance(place, MemoryPlace):
        return b"\n".join(key + value for key, value in place.store.scan(b""))
    assert isinstance(place, EmbeddedPlace)
    with RocksStore(place.folder / "store") as store:
        held = b"\n".join(key + value for key, value in store.scan(b""))
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    return held + b"".join(path.read_bytes() for path in files)


async def test_dependencies_and_environment_are_in_no_record_log_or_status(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_PASSWORD", SECRET)
    monkeypatch.setenv("SOME_TOKEN", SECRET)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("headrace.node").setLevel(logging.DEBUG)
    seen: list[Any] = []
    async with place.work(app()) as client:
        for flow in ("use", "fail"):
            await client.submit(c.Start(flow, flow))
        seen.append(await client.result("fail", RESULT_S))
        await client.submit(c.Signal("use", "e", b'"said"'))
        seen.append(await client.result("use", RESULT_S))
        for run_id in ("use", "fail"):
            seen.append(await client.status(run_id))
            seen += [event async for event in client.events(run_id)]
        seen += await client.runs()
        seen.append(repr(client))

    assert "the text of an error is the author's" in str(seen)
    assert "tokn" in str(seen), "what is missing is named"
    assert "used the vault" in caplog.text
    assert "Traceback" in caplog.text
    assert SECRET not in str(seen)
    assert SECRET not in caplog.text
    assert SECRET.encode() not in everything_in(place)
    assert SECRET not in repr(app())


def test_settings_keep_a_password_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PASSWORD", SECRET)
    settings = load_settings(url=f"kafka://user:{SECRET}@host:9092")

    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert settings.password is not None
    assert settings.password.get_secret_value() == SECRET


CASES: dict[str, list[str]] = {
    "a URL that no adapter serves": ["list", "--url", f"kafka://user:{SECRET}@host:9092"],
    "a worker of it": ["worker", "plain.py", "--url", f"kafka://user:{SECRET}@host:9092"],
    "a start with a bad input": ["start", "f", "--app", "plain", "--input", "{", "--url", f"kafka://user:{SECRET}@host"],
    "a run in memory": ["run", "plain.py", "f", "--url", "memory:"],
    "a run that fails": ["run", "plain.py", "bad", "--url", "memory:"],
    "an app that is broken": ["worker", "broken.py", "--url", "memory:"],
    "the help": ["worker", "--help"],
}


@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug"])
@pytest.mark.parametrize("arguments", list(CASES.values()), ids=list(CASES))
def test_no_command_prints_a_secret(
    arguments: list[str],
    debug: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("headrace_adapters.kafka.topic_layout.ANSWER_S", 1.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_PASSWORD", SECRET)
    monkeypatch.setenv("HEADRACE_USERNAME", "user")
    monkeypatch.delenv("HEADRACE_URL", raising=False)
    Path("plain.py").write_text(
        "import os\nfrom headrace import App, Flow\n"
        "app = App('plain', {'token': os.environ['HEADRACE_PASSWORD']})\n"
        "app.add(Flow('f').node('a', lambda ctx: len(ctx.dependencies['token'])))\n"
        "app.add(Flow('bad').node('a', lambda ctx: 1 / 0))\n",
        encoding="utf-8",
    )
    Path("broken.py").write_text("import os\ntoken = os.environ['HEADRACE_PASSWORD']\n1 / 0\n", encoding="utf-8")
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["headrace", *arguments, *(["--debug"] if debug and "--help" not in arguments else [])])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))

    with pytest.raises(SystemExit):
        main()
    for name in set(sys.modules) - known:
        if name in {"plain", "broken"}:
            del sys.modules[name]

    out, err = capsys.readouterr()
    assert SECRET not in out + err + caplog.text
    assert out + err


@pytest.mark.parametrize("name", ["password", "HEADRACE_PASSWORD"])
def test_a_config_file_with_a_bad_setting_does_not_show_the_good_secret_beside_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f'password = "{SECRET}"\nslots = "many"\n' if name == "password" else 'slots = "many"\n'
    Path("headrace.toml").write_text(text, encoding="utf-8")
    if name != "password":
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setattr(sys, "argv", ["headrace", "list", "--json"])

    with pytest.raises(SystemExit) as caught:
        main()

    out, err = capsys.readouterr()
    assert caught.value.code == 2
    assert SECRET not in out + err
    assert "'slots'" in json.loads(err.splitlines()[-1])["error"]["message"]
    assert "password" in Settings.model_fields
