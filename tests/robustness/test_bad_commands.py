"""What somebody types or sends that cannot be used: one clear line, an exit code, and everything else goes on."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headrace_adapters.cli.main import main

PROGRAM = """
from headrace import App, Flow
app = App("bad").add(Flow("echo").node("give", lambda ctx: ctx.input))
app.add(Flow("ask").wait("w", event="e").node("end", lambda ctx: ctx.input, after="w"))
"""


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> Any:
        """The one error on standard error."""
        return json.loads(self.err.splitlines()[-1])["error"]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Headrace = Callable[..., Outcome]


@pytest.fixture
def headrace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Headrace]:
    """Type a command in a folder with one app, on a store of its own."""
    for name in ("HEADRACE_CONFIG", "HEADRACE_APP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_URL", "embedded:store")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("bad.py").write_text(PROGRAM, encoding="utf-8")

    def typed(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["headrace", *arguments, "--json"])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    yield typed
    sys.modules.pop("bad", None)


DEEP = "[" * 300 + "]" * 300
VERY_DEEP = "[" * 100_000 + "]" * 100_000
BAD_INPUTS = {
    "no JSON": ("{not json", "--input is not JSON"),
    "bare text": ("hello", "--input is not JSON"),
    "two values": ("1 2", "--input is not JSON"),
    "a trailing comma": ("[1,]", "--input is not JSON"),
    "single quotes": ("{'a': 1}", "--input is not JSON"),
    "empty": ("", "--input is not JSON"),
    "NaN": ("NaN", "--input is not JSON"),
    "Infinity far inside": ('{"a": [-Infinity]}', "--input is not JSON"),
    "a lone surrogate": ('"\\ud800"', "--input is not JSON"),
    "bytes that are no text": ('"\udcff"', "--input is not JSON"),
    "too deep": (DEEP, "nested deeper than 254"),
    "far too deep": (VERY_DEEP, "--input"),
    "a file that is not there": ("@missing.json", "missing.json cannot be read"),
    "a folder": ("@.", "cannot be read"),
    "too large": ('"' + "x" * 1_000_001 + '"', "the limit is 1000000"),
    "an integer that JSON numbers cannot carry": ("123456789012345678901234567890", "64 bits"),
}


@pytest.mark.parametrize(("text", "part"), list(BAD_INPUTS.values()), ids=list(BAD_INPUTS))
@pytest.mark.parametrize("command", ["run", "start"])
def test_an_input_that_cannot_be_used_is_told_and_starts_nothing(
    headrace: Headrace, command: str, text: str, part: str
) -> None:
    arguments = ["run", "bad.py", "echo"] if command == "run" else ["start", "echo", "--app", "bad"]
    outcome = headrace(*arguments, "--input", text)

    assert outcome.code == 2, outcome
    assert part in outcome.error["message"]
    assert "Traceback" not in outcome.err
    assert headrace("list").lines in ([], [[]])


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["run", "bad.py", "nobody"], 2, "has no flow 'nobody'; its flows are"),
        (["run", "missing.py", "echo"], 2, "missing.py"),
        (["run", "bad.py:nothing", "echo"], 2, "nothing"),
        (["start", "nobody", "--app", "bad.py"], 2, "has no flow 'nobody'"),
        (["start", "echo", "--app", "bad", "--context", "[1]"], 2, "--context has to be a JSON object, and is a list"),
        (["start", "echo", "--app", "bad", "--run-id", ""], 2, "run"),
        (["start", "echo", "--app", "bad", "--run-id", "r" * 1_025], 2, "1025 bytes"),
        (["start", "echo", "--app", "bad", "--run-id", "\udcff"], 2, "UTF-8"),
        (["start", "--app", "bad"], 2, "FLOW"),
        (["start", "--app", "bad", "--from", "missing.jsonl"], 2, "missing.jsonl"),
        (["check", "missing.json"], 2, "missing.json"),
        (["status", "nobody"], 7, "nobody"),
        (["result", "nobody"], 7, "nobody"),
        (["status", "\udcff"], 2, "UTF-8"),
    ],
    ids=str,
)
def test_what_does_not_exist_or_cannot_be_is_told_in_one_line(
    headrace: Headrace, arguments: list[str], code: int, part: str
) -> None:
    outcome = headrace(*arguments)

    assert outcome.code == code, outcome
    assert part in outcome.error["message"]
    assert "Traceback" not in outcome.err


def test_bad_lines_are_each_told_with_their_field_and_the_good_ones_are_started(headrace: Headrace) -> None:
    bad = {
        "{": "not JSON",
        "[]": "a JSON object",
        "5": "a JSON object",
        "null": "a JSON object",
        '{"runId": 5}': "runId",
        '{"runId": ""}': "runId",
        '{"runId": "' + "r" * 1_025 + '"}': "1025 bytes",
        '{"runId": "x", "blueprintId": []}': "blueprintId",
        '{"runId": "x", "blueprintId": "nobody"}': "nobody",
        '{"runId": "x", "context": [1]}': "context",
        '{"runId": "x", "context": {"k": 1}, "inptu": 1}': "inptu",
        '{"runId": "x", "type": "resume"}': "type",
        '{"runId": "x", "version": 1}': "version",
        '{"runId": "x", "input": ' + DEEP + "}": "nested deeper",
        '{"runId": "x", "input": "' + "y" * 1_000_001 + '"}': "the limit is 1000000",
        '{"runId": "x", "input": 123456789012345678901234567890}': "64 bits",
        '{"runId": "\\ud800"}': "not JSON",
        "\ud800": "not JSON",
    }
    good = [f'{{"runId": "g{number}", "input": {number}}}' for number in range(len(bad))]
    lines = [line for pair in zip(bad, good, strict=True) for line in pair]
    Path("starts.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))

    outcome = headrace("start", "echo", "--app", "bad.py", "--from", "starts.jsonl")

    assert outcome.code == 2
    assert outcome.lines[-1]["accepted"] == len(good)
    assert outcome.lines[-1]["bad"] == len(bad)
    errors = [json.loads(line)["error"] for line in outcome.err.splitlines()]
    told = {error["line"]: error["message"] for error in errors if "line" in error}
    assert sorted(told) == [2 * number + 1 for number in range(len(bad))]
    for number, (text, part) in enumerate(bad.items()):
        assert part in told[2 * number + 1], text[:60]


BLUEPRINTS = {
    "no JSON": ("{", "is not JSON"),
    "a list of numbers": ("[5]", "object"),
    "no nodes": ('{"id": "f"}', "nodes"),
    "nodes of a wrong type": ('{"id": "f", "nodes": {"a": 1}, "edges": []}', "nodes"),
    "a node of a wrong type": ('{"id": "f", "nodes": [5], "edges": []}', "nodes[0]"),
    "an id of a wrong type": ('{"id": "f", "nodes": [{"id": 5, "uses": "x"}], "edges": []}', "nodes[0].id"),
    "edges of a wrong type": ('{"id": "f", "nodes": [], "edges": [1]}', "edges[0]"),
    "a cycle": (
        '{"id": "f", "nodes": [{"id": "a", "uses": "x"}], "edges": [{"source": "a", "target": "a"}]}',
        "CYCLE_WITHOUT_LOOP",
    ),
    "far too deep": ('{"id": "f", "nodes": [], "edges": [], "metadata": ' + "[" * 2_000 + "]" * 2_000 + "}", "f.json"),
    "params too deep": (
        '{"id": "f", "nodes": [{"id": "a", "uses": "x", "params": {"p": ' + DEEP + '}}], "edges": []}',
        "nodes[0].params",
    ),
}


@pytest.mark.parametrize(("text", "part"), list(BLUEPRINTS.values()), ids=list(BLUEPRINTS))
def test_a_blueprint_file_that_cannot_be_used_names_what_is_wrong_and_where(
    headrace: Headrace, text: str, part: str
) -> None:
    Path("f.json").write_text(text, encoding="utf-8")

    outcome = headrace("check", "f.json")

    assert outcome.code in {1, 2}, outcome
    assert part in outcome.out + outcome.err
    assert "Traceback" not in outcome.err


async def _commands_to_a_waiting_run(headrace: Headrace) -> dict[str, Outcome]:
    """A worker in this process, and the commands in threads, which reach it over its socket."""
    from headrace import commands as c
    from headrace_adapters.cli.loading import load_app
    from headrace_adapters.embedded import open_adapter

    worker = open_adapter(load_app("bad.py"), "embedded:store", {"sync": False}).worker()
    client = await worker.start()
    await client.submit(c.Start("r", "ask"))
    while (await client.status("r") or {}).get("status") != "awaiting":  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    try:
        cases = {
            "resume of an unknown node": ["resume", "r", "nowhere"],
            "resume of a node that does not wait": ["resume", "r", "end"],
            "resume with a bad output": ["resume", "r", "w", "--output", "{"],
            "signal with a bad payload": ["signal", "r", "e", "--payload", "nope"],
            "signal with a long name": ["signal", "r", "e" * 1_025],
            "signal with a giant payload": ["signal", "r", "e", "--payload", '"' + "x" * 1_000_001 + '"'],
            "resume of an unknown run": ["resume", "nobody", "w"],
            "unpause of a run that is not paused": ["unpause", "r"],
        }
        outcomes = {name: await asyncio.to_thread(headrace, *arguments) for name, arguments in cases.items()}
        assert (await client.status("r") or {})["awaiting"] == ["w"], "nothing was changed"
        outcomes["a good signal"] = await asyncio.to_thread(headrace, "signal", "r", "e", "--payload", "1")
        return outcomes
    finally:
        await worker.stop()
        await client.close()


async def test_commands_that_do_not_fit_a_run_change_nothing_and_say_why(headrace: Headrace) -> None:
    outcomes = await _commands_to_a_waiting_run(headrace)

    codes = {name: outcome.code for name, outcome in outcomes.items()}
    assert codes == {
        "resume of an unknown node": 4,
        "resume of a node that does not wait": 4,
        "resume with a bad output": 2,
        "signal with a bad payload": 2,
        "signal with a long name": 2,
        "signal with a giant payload": 2,
        "resume of an unknown run": 7,
        "unpause of a run that is not paused": 4,
        "a good signal": 0,
    }
    assert "there is no such node" in outcomes["resume of an unknown node"].out + outcomes["resume of an unknown node"].err
