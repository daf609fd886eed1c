"""The commands as somebody types them: arguments in, text, JSON and exit codes out."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from headrace_adapters.cli.exit_codes import ExitCode
from headrace_adapters.cli.loading import load_app
from headrace_adapters.cli.main import main
from headrace_adapters.settings import Settings

APP = """
import time
from headrace import App, Flow, Result

app = App("shop")
quick = Flow("quick")
app.add(quick)

@quick.node
def one(ctx):
    print("a node prints this")
    return {"n": ctx.input, "k": ctx.get("k")}

failing = Flow("failing").node("boom", lambda: 1 / 0).node("after", lambda: 1, after="boom")
failing.node("good", lambda: "good")
app.add(failing)

asking = Flow("asking").node("before", lambda: 1).wait("ask", event="answered", after="before")
asking.node("yes", lambda ctx: ctx.input, after="ask", action="yes")
app.add(asking)

retrying = Flow("retrying")
app.add(retrying)

@retrying.node(max_retries=3, retry_delay="10ms")
def again(ctx):
    if ctx.attempt < 3:
        raise RuntimeError(f"not [yet] in attempt {ctx.attempt}")
    return ctx.attempt

batch = Flow("batch").node("list", lambda: list(range(5))).batch("each", lambda ctx: ctx.input * 2, after="list")
app.add(batch)

stubborn = Flow("stubborn").node("hang", lambda: time.sleep(60))
app.add(stubborn)
"""
BROKEN = """
from headrace import App, Flow
app = App("broken").add(Flow("f").node("a", lambda: 1).node("b", lambda: 1, after="a", join=5).edge("a", "gone"))
app.add(Flow("sound").node("a", lambda: 1))
app.add(Flow("warned").node("a", lambda: 1).node("b", uses="missing"))
"""
STORE = "embedded:store"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def error(self) -> Any:
        """The one error on standard error."""
        (line,) = [line for line in self.err.splitlines() if line.startswith('{"error"')]
        return json.loads(line)["error"]


Headrace = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with the apps, no setting from outside, and imports that are forgotten afterwards."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"HEADRACE_{name.upper()}", raising=False)
    for name in ("HEADRACE_CONFIG", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("shop.py").write_text(APP, encoding="utf-8")
    Path("broken.py").write_text(BROKEN, encoding="utf-8")
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if not name.startswith("headrace"):
            del sys.modules[name]


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Headrace:
    """Type a command; *stdin* is what comes over standard input."""

    def typed(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["headrace", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        return Outcome(code if isinstance(code, int) else 0, *capsys.readouterr())

    return typed


# run


def test_run_prints_the_progress_of_each_node_and_the_result(headrace: Headrace) -> None:
    done = headrace("run", "shop.py", "quick", "--input", '{"x": 1}', "--context", '{"k": 2}', "--url", "memory:")

    assert done.code == ExitCode.OK
    assert "one: started" in done.err
    assert 'one: completed with {"n":{"x":1},"k":2}' in done.err
    head, rest = done.out.split("\n{", 1)
    assert "a node prints this" in head
    assert "of quick (version 1) completed in" in head
    assert json.loads("{" + rest) == {"n": {"x": 1}, "k": 2}


def test_run_as_json_writes_the_result_and_nothing_else(headrace: Headrace) -> None:
    done = headrace("run", "shop.py", "quick", "-i", "[1]", "--run-id", "r1", "--url", "memory:", "--json")

    assert done.code == ExitCode.OK
    assert done.json["runId"] == "r1"
    assert done.json["status"] == "completed"
    assert done.json["output"] == {"n": [1], "k": None}
    assert done.err == "a node prints this\n"


def test_run_of_a_flow_that_fails_says_what_failed(headrace: Headrace) -> None:
    done = headrace("run", "shop.py", "failing", "--url", "memory:")

    assert done.code == ExitCode.FAILED
    assert "boom: division by zero (NODE_ERROR)" in done.out
    assert "after: not executed: its predecessor boom failed" in done.err
    assert "Traceback" not in done.out + done.err


def test_run_shows_attempts_that_failed(headrace: Headrace) -> None:
    done = headrace("run", "shop.py", "retrying", "--url", "memory:")

    assert done.code == ExitCode.OK
    assert "again: attempt 2 is due at" in done.err
    assert "not [yet] in attempt 2" in done.err


def test_run_tells_of_a_batch_once_and_not_of_each_item(headrace: Headrace) -> None:
    done = headrace("run", "shop.py", "batch", "--url", "memory:")

    assert "each_scatter: batch of 5 items started" in done.err
    assert "each_scatter[0]" not in done.err
    assert json.loads(done.out.split("\n", 1)[1]) == [0, 2, 4, 6, 8]


def test_the_input_may_come_from_a_file_or_from_standard_input(headrace: Headrace) -> None:
    Path("in.json").write_bytes(b"\xef\xbb\xbf[1, 2]")

    from_file = headrace("run", "shop.py", "quick", "-i", "@in.json", "--url", "memory:", "--json")
    from_stdin = headrace("run", "shop.py", "quick", "-i", "-", "--url", "memory:", "--json", stdin=b'"in"')

    assert from_file.json["output"]["n"] == [1, 2]
    assert from_stdin.json["output"]["n"] == "in"


def test_a_run_that_takes_too_long_is_kept_and_gone_on_with(headrace: Headrace) -> None:
    kept = headrace("run", "shop.py", "asking", "--run-id", "r1", "--timeout", "1", "--url", STORE)
    assert kept.code == ExitCode.UNFINISHED
    assert "answer it with: headrace resume r1 ask" in kept.err
    assert f"it goes on when a worker runs at {STORE}" in kept.err

    resumed = headrace("resume", "r1", "ask", "--action", "yes", "--output", '"fine"', "--url", STORE, "--json")
    assert (resumed.code, resumed.json["outcome"]) == (ExitCode.OK, "accepted")

    done = headrace("run", "shop.py", "asking", "--run-id", "r1", "--url", STORE)
    assert done.code == ExitCode.OK
    assert "run r1 exists already: going on with it" in done.err
    assert done.out.endswith('"fine"\n')


def test_on_a_terminal_the_nodes_are_a_table_that_stays(headrace: Headrace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")

    done = headrace("run", "shop.py", "failing", "--url", "memory:")

    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.err)
    last = shown[shown.rindex("failing  run") :]
    assert "  failed  " in last.splitlines()[0]
    assert re.search(r"✘  boom +failed .* division by zero", last)
    assert re.search(r"✘  after +poisoned +\S+ ms +behind the failure of boom|✘  after +poisoned +behind", last)
    assert re.search(r"✔  good +completed", last)
    assert "failed" in done.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "gone.py"], "there is no file gone.py"),
        (["run", "shop.py"], "say which flow of shop.py is meant"),
        (["run", "shop.py", "quik"], "shop.py has no flow 'quik'; its flows are: quick"),
        (["run", "shop.py", "quick", "-i", "{x"], "--input is not JSON"),
        (["run", "shop.py", "quick", "-i", "@gone.json"], "gone.json cannot be read"),
        (["run", "shop.py", "quick", "--context", "[1]"], "--context has to be a JSON object, and is a list"),
        (["run", "shop.py", "quick", "--timeout", "soon"], "--timeout: expected seconds"),
        (["run", "shop.py", "quick", "--url", "nowhere:"], "no adapter is installed for the scheme 'nowhere:'"),
        (["run", "shop.py", "quick", "--slots", "0", "--url", "memory:"], "setting 'slots' is 0"),
        (["run", "shop.py", "quick", "--run-id", "", "--url", "memory:"], "the id of a run"),
        (["run", "broken.py", "f", "--url", "memory:"], "EDGE_TARGET_UNKNOWN at edge 'a' -> 'gone'"),
        (["start", "--url", "memory:"], "say which FLOW to start"),
        (["start", "f", "--from", "gone.jsonl", "--url", "memory:"], "gone.jsonl cannot be read"),
        (["start", "f", "--from", "x", "--run-id", "r", "--url", "memory:"], "leave these out"),
        (["start", "f", "--app", "not a name", "--url", "memory:"], "an app cannot be called 'not a name'"),
        (["list", "--state", "bogus", "--url", "memory:"], "there is no state 'bogus'"),
        (["graph", "shop.py", "quik"], "has no flow 'quik'"),
        (["graph", "shop.py"], "say which FLOW to draw"),
        (["check", "gone.json"], "gone.json cannot be read"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(headrace: Headrace, arguments: list[str], told: str) -> None:
    plain = headrace(*arguments)
    as_json = headrace(*arguments, "--json")

    assert (plain.code, plain.out) == (ExitCode.USAGE, "")
    assert plain.err.startswith("error: ")
    assert told in plain.err
    assert "Traceback" not in plain.err
    assert (as_json.code, as_json.out) == (ExitCode.USAGE, "")
    assert told in as_json.error["message"]
    assert as_json.error["exitCode"] == ExitCode.USAGE


def test_options_that_do_not_exist_are_told_in_both_ways(headrace: Headrace) -> None:
    plain = headrace("run", "shop.py", "--nope")
    as_json = headrace("run", "shop.py", "--nope", "--json")

    assert plain.code == as_json.code == ExitCode.USAGE
    assert "No such option: --nope" in plain.err
    assert "No such option: --nope" in as_json.error["message"]


def test_an_error_that_nobody_foresaw_is_one_line_unless_somebody_debugs(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("headrace_adapters.cli.run_commands.load_app", defect)

    plain = headrace("run", "shop.py", "quick")
    debugged = headrace("run", "shop.py", "quick", "--debug")

    assert plain.code == debugged.code == ExitCode.DEFECT
    assert plain.err == "error: unexpected ZeroDivisionError: a defect (--debug shows where; please report it)\n"
    assert "Traceback" in debugged.err


def test_the_problems_of_a_blueprint_are_in_the_json_error(headrace: Headrace) -> None:
    refused = headrace("run", "broken.py", "f", "--url", "memory:", "--json")

    assert {problem["code"] for problem in refused.error["problems"]} == {
        "EDGE_TARGET_UNKNOWN",
        "JOIN_STRATEGY_INVALID",
    }


def test_the_url_may_come_from_the_config_file(headrace: Headrace) -> None:
    Path("headrace.toml").write_text('url = "memory:"\n', encoding="utf-8")

    assert headrace("run", "shop.py", "quick", "--json").code == ExitCode.OK
    assert not Path("data").exists()


# start, and looking at what was started


def bring(flow: str, status: str) -> None:
    """Have a run r1 of *flow* worked on until it is in *status*, by a worker that is gone then."""

    async def work() -> None:
        app = load_app("shop.py")
        async with app.work(STORE):
            handle = await app.start(flow, run_id="r1")
            async with aclosing(handle.events(follow=True)) as events:
                async for event in events:
                    if event["type"].lower() == f"run{status}":
                        return

    asyncio.run(work())


def test_a_started_run_is_found_by_every_command_that_looks(headrace: Headrace) -> None:
    bring("asking", "awaiting")

    status = headrace("status", "r1", "--url", STORE, "--json")
    assert status.json["status"] == "awaiting"
    assert status.json["awaiting"] == ["ask"]

    listed = headrace("list", "--url", STORE, "--json", "--state", "awaiting")
    assert listed.json["runId"] == "r1"
    assert headrace("list", "--url", STORE, "--flow", "failing", "--json").out == ""

    events = headrace("events", "r1", "--url", STORE, "--json")
    kinds = [json.loads(line)["type"] for line in events.out.splitlines()]
    assert (kinds[0], kinds[-1]) == ("runStarted", "runAwaiting")

    waiting = headrace("result", "r1", "--url", STORE, "--json")
    assert (waiting.code, waiting.out) == (ExitCode.UNFINISHED, "")
    assert waiting.error["status"] == "awaiting"


def test_people_see_the_same_as_text(headrace: Headrace) -> None:
    bring("asking", "awaiting")

    status = headrace("status", "r1", "--url", STORE).out
    assert "run r1 of asking (version 1)  awaiting" in status
    assert "?  ask     waiting" in status
    assert "awaits ask  (headrace resume r1 ask or headrace signal r1 answered)" in status
    assert "asking  1" in headrace("list", "--url", STORE).out
    assert "ask: waits for the event answered" in headrace("events", "r1", "--url", STORE).out
    assert "it is awaiting, awaiting ask" in headrace("result", "r1", "--url", STORE).err


def test_a_run_that_has_ended_shows_its_nodes_and_its_result(headrace: Headrace) -> None:
    bring("failing", "failed")

    status = headrace("status", "r1", "--url", STORE, "--json")
    states = {node["id"]: node["state"] for node in status.json["nodes"]}
    assert states == {"boom": "failed", "after": "poisoned", "good": "completed"}

    plain = headrace("status", "r1", "--url", STORE).out
    assert "error boom: division by zero (NODE_ERROR)" in plain

    result = headrace("result", "r1", "--url", STORE, "--json")
    assert result.code == ExitCode.FAILED
    assert result.json["errors"][0]["nodeId"] == "boom"


def test_result_and_status_of_cancelled_runs_say_so(headrace: Headrace) -> None:
    bring("asking", "awaiting")
    headrace("cancel", "r1", "--reason", "enough", "--url", STORE)
    bring("asking", "cancelled")

    assert headrace("result", "r1", "--url", STORE).code == ExitCode.CANCELLED
    assert headrace("status", "r1", "--url", STORE, "--json").json["status"] == "cancelled"


def test_a_wait_for_a_result_ends_in_time(headrace: Headrace) -> None:
    bring("asking", "awaiting")

    assert headrace("result", "r1", "--timeout", "0.2", "--url", STORE).code == ExitCode.UNFINISHED


@pytest.mark.parametrize("command", [["result"], ["status"], ["events"]])
def test_looking_at_a_run_that_nobody_knows(headrace: Headrace, command: list[str]) -> None:
    unknown = headrace(*command, "nobody", "--url", STORE, "--json")

    assert (unknown.code, unknown.out) == (ExitCode.UNKNOWN, "")
    assert unknown.error["runId"] == "nobody"


def test_a_start_without_a_worker_is_kept_for_one(headrace: Headrace) -> None:
    begun = headrace("start", "asking", "--run-id", "r1", "--input", "1", "--url", STORE, "--json")
    plain = headrace("start", "asking", "--url", STORE)

    assert (begun.code, begun.json["runId"], begun.json["outcome"]) == (ExitCode.OK, "r1", "accepted")
    assert "accepted: it is taken up when a worker starts" in plain.out
    bring("asking", "awaiting")
    assert len(headrace("list", "--url", STORE, "--json").out.splitlines()) == 2


def test_a_start_checks_the_flow_where_it_is_given_the_app(headrace: Headrace) -> None:
    refused = headrace("start", "quik", "--app", "shop.py", "--url", STORE, "--json")

    assert refused.code == ExitCode.USAGE
    assert "app 'shop' has no flow 'quik'" in refused.error["message"]


# start --from


def test_many_runs_are_started_from_a_file_and_bad_lines_keep_nothing_else(headrace: Headrace) -> None:
    lines = [
        '{"runId": "r1", "input": 1}',
        '{"runId": 2}',
        "nonsense",
        "",
        '{"runId": "r3", "blueprintId": "quik"}',
        '{"type": "start", "runId": "r4", "blueprintId": "failing"}',
        '{"runId": "r5", "input": "' + "x" * 1_000_001 + '"}',
    ]
    Path("events.jsonl").write_text("\n".join(lines), encoding="utf-8")

    done = headrace("start", "quick", "--app", "shop.py", "--from", "events.jsonl", "--url", STORE, "--json")

    assert done.code == ExitCode.USAGE
    assert done.json == {"lines": 6, "started": 0, "accepted": 2, "duplicate": 0, "refused": 0, "bad": 4}
    errors = [json.loads(line)["error"] for line in done.err.splitlines()]
    assert {(error["line"], error.get("field")) for error in errors} == {
        (2, "runId"),
        (3, None),
        (5, "blueprintId"),
        (7, "input"),
    }


def test_many_runs_are_started_from_standard_input_as_text(headrace: Headrace) -> None:
    stdin = b"".join(b'{"runId": "r%d"}\n' % (number % 300) for number in range(600)) + b"[]\n"

    done = headrace("start", "quick", "--app", "shop", "--from", "-", "--url", STORE, stdin=stdin)

    assert done.code == ExitCode.USAGE
    assert "line 601: expected a JSON object: a list" in done.err
    assert done.out == "601 lines: 0 started, 600 accepted for a worker to come, 0 duplicate, 0 refused, 1 bad\n"


def test_a_file_without_lines_starts_nothing(headrace: Headrace) -> None:
    Path("empty.jsonl").write_bytes(b"")

    done = headrace("start", "--from", "empty.jsonl", "--url", STORE, "--json")

    assert (done.code, done.json["lines"]) == (ExitCode.OK, 0)


# check and graph


def test_check_of_sound_flows_finds_nothing(headrace: Headrace) -> None:
    done = headrace("check", "shop.py", "--json")

    assert done.code == ExitCode.OK
    assert done.json["ok"] is True
    assert {flow["id"] for flow in done.json["flows"]} >= {"quick", "failing", "asking"}
    assert "✔ quick version 1" in headrace("check", "shop.py").out


def test_check_prints_every_problem_with_its_place(headrace: Headrace) -> None:
    plain, as_json = headrace("check", "broken.py"), headrace("check", "broken.py", "--json")

    assert plain.code == as_json.code == ExitCode.FAILED
    assert "✘ f version 1" in plain.out
    assert "EDGE_TARGET_UNKNOWN at edge 'a' -> 'gone': " in plain.out
    assert "JOIN_STRATEGY_INVALID at node 'b': " in plain.out
    assert "IMPLEMENTATION_MISSING at node 'b': " in plain.out
    problems = {flow["id"]: [problem["code"] for problem in flow["problems"]] for flow in as_json.json["flows"]}
    assert problems["sound"] == []
    assert problems["warned"] == ["IMPLEMENTATION_MISSING"]


def test_check_reads_blueprints_from_a_file(headrace: Headrace) -> None:
    documents = [
        {"id": "ok", "nodes": [{"id": "a", "uses": "anything"}], "edges": []},
        {"id": "odd", "nodes": [{"id": 3}]},
        {"id": "parent", "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "gone"}}]},
    ]
    Path("all.json").write_text(json.dumps(documents), encoding="utf-8")
    Path("one.json").write_text(json.dumps(documents[2]), encoding="utf-8")
    Path("bad.json").write_text("{", encoding="utf-8")

    several = headrace("check", "all.json", "--json")

    codes = {flow["id"]: [problem["code"] for problem in flow["problems"]] for flow in several.json["flows"]}
    assert codes["ok"] == []
    assert set(codes["odd"]) == {"BLUEPRINT_MALFORMED"}
    assert codes["parent"] == ["SUBFLOW_UNKNOWN"]
    assert headrace("check", "one.json").code == ExitCode.OK
    assert headrace("check", "bad.json").code == ExitCode.USAGE


def test_graph_is_mermaid_or_dot(headrace: Headrace) -> None:
    mermaid = headrace("graph", "shop.py", "asking")
    dot = headrace("graph", "shop.py", "asking", "--format", "dot")
    as_json = headrace("graph", "shop.py", "asking", "--json")

    assert mermaid.out.startswith('flowchart TD\n    n0("before")\n')
    assert dot.out.startswith('digraph "asking" {\n')
    assert as_json.json["text"] == mermaid.out
    assert headrace("graph", "shop.py", "asking", "--format", "png").code == ExitCode.USAGE


# Help


COMMANDS = [
    "run",
    "worker",
    "start",
    "result",
    "status",
    "list",
    "events",
    "resume",
    "signal",
    "cancel",
    "pause",
    "unpause",
    "check",
    "graph",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_json(headrace: Headrace, command: str) -> None:
    shown = headrace(command, "--help")

    assert shown.code == ExitCode.OK
    assert "--json" in shown.out


def test_the_help_names_every_command(headrace: Headrace) -> None:
    shown = headrace("--help").out

    assert [command for command in COMMANDS if f" {command} " not in shown] == []
    assert headrace("--version").out.startswith("headrace ")


# A worker in another process


class Running(NamedTuple):
    process: subprocess.Popen[str]

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, timeout_s: float = 20.0) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out


@pytest.fixture
def begin() -> Iterator[Callable[..., Running]]:
    """Begin a command in a process of its own."""
    begun: list[subprocess.Popen[str]] = []

    def typed(*arguments: str) -> Running:
        command = [sys.executable, "-m", "headrace_adapters.cli.main", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        begun.append(process)
        return Running(process)

    yield typed
    for process in begun:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_other_commands_reach_a_running_worker(headrace: Headrace, begin: Callable[..., Running]) -> None:
    worker = begin("worker", "shop.py", "--url", STORE, "--json")
    ready = json.loads(worker.line())
    assert (ready["event"], ready["app"], ready["url"]) == ("ready", "shop", STORE)

    def tell(*arguments: str) -> Outcome:
        return headrace(*arguments, "--url", STORE, "--json")

    assert tell("start", "asking", "--run-id", "r1").json["outcome"] == "applied"
    again = tell("start", "asking", "--run-id", "r1")
    assert (again.code, again.json["outcome"]) == (ExitCode.REFUSED, "duplicate")
    assert tell("pause", "r1", "--reason", "lunch").json["outcome"] == "applied"
    paused_again = tell("pause", "r1")
    assert (paused_again.code, paused_again.json["outcome"]) == (ExitCode.REFUSED, "ignored")
    assert tell("unpause", "r1").json["outcome"] == "applied"
    assert tell("resume", "r1", "nowhere").json["outcome"] == "ignored"
    assert tell("signal", "r1", "answered", "--payload", "[1]").json["outcome"] == "applied"
    result = tell("result", "r1", "--wait", "--timeout", "10")
    assert (result.code, result.json["status"]) == (ExitCode.OK, "completed")
    assert tell("cancel", "nobody").code == ExitCode.UNKNOWN
    assert tell("start", "asking", "--run-id", "r2").code == ExitCode.OK
    assert tell("cancel", "r2").json["outcome"] == "applied"
    assert tell("result", "r2", "--timeout", "10").code == ExitCode.CANCELLED

    worker.process.send_signal(signal.SIGTERM)
    code, out = worker.end()
    assert (code, json.loads(out)) == (ExitCode.OK, {"event": "stopped"})


def test_a_worker_that_is_told_twice_stops_at_once(headrace: Headrace, begin: Callable[..., Running]) -> None:
    worker = begin("worker", "shop.py", "--url", STORE, "--grace", "60")
    assert worker.line().startswith("ready: worker of app shop at embedded:store")
    assert headrace("start", "stubborn", "--run-id", "r1", "--url", STORE).code == ExitCode.OK
    while headrace("status", "r1", "--url", STORE, "--json").json["nodes"][0]["state"] != "running":
        pass

    worker.process.send_signal(signal.SIGINT)
    assert worker.process.stderr is not None
    while "stopping" not in worker.process.stderr.readline():
        pass
    worker.process.send_signal(signal.SIGINT)

    assert worker.end()[0] == ExitCode.INTERRUPTED
    assert headrace("status", "r1", "--url", STORE, "--json").json["nodes"][0]["state"] == "running"


def test_a_run_that_is_stopped_is_kept(headrace: Headrace, begin: Callable[..., Running]) -> None:
    run = begin("run", "shop.py", "asking", "--run-id", "r1", "--url", STORE)
    assert run.process.stderr is not None
    while "answer it with" not in run.process.stderr.readline():
        pass

    run.process.send_signal(signal.SIGINT)

    assert run.end()[0] == ExitCode.OK
    assert headrace("status", "r1", "--url", STORE, "--json").json["status"] == "awaiting"


def test_a_run_that_ends_while_its_worker_stops_has_ended(begin: Callable[..., Running]) -> None:
    code = "import time\nfrom headrace import Flow\nf = Flow('f')\n@f.node\ndef nap():\n    time.sleep(1)\n    return 7\n"
    Path("slow.py").write_text(code, encoding="utf-8")
    run = begin("run", "slow.py", "--url", STORE)
    assert run.process.stderr is not None
    while "nap: started" not in run.process.stderr.readline():
        pass

    run.process.send_signal(signal.SIGTERM)

    ended, out = run.end()
    assert ended == ExitCode.OK
    assert out.endswith("\n7\n")


def test_a_second_worker_on_a_folder_is_told_that_it_is_held(headrace: Headrace, begin: Callable[..., Running]) -> None:
    worker = begin("worker", "shop.py", "--url", STORE)
    assert worker.line().startswith("ready")

    refused = headrace("run", "shop.py", "quick", "--url", STORE, "--json")

    assert (refused.code, refused.out) == (ExitCode.STORE, "")
    assert refused.error["code"] == "STORE"
