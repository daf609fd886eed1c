"""What the pages show is run: a page's blocks of Python from the top to the bottom, as one program."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from headrace import Flow, events, validation, validation_graph

if TYPE_CHECKING:
    from tests.broker.fixtures import AppName

    from conftest import Shell

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["docs/writing-flows.md"]
COMMANDS = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(page: Path) -> Iterator[tuple[int, str]]:
    """The blocks of a page, each with the number of lines before it."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start(1)), found[1]


async def run_page(page: Path) -> dict[str, Any]:
    """Run all blocks in one module; a block may await, as in an interactive session."""
    names: dict[str, Any] = {"__name__": "page"}
    for line, block in blocks_of(page):
        # Blank lines before it, so that an error names the line of the page.
        code = compile("\n" * line + block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(code, names)
        if inspect.isawaitable(running):
            await running
    return names


@pytest.mark.parametrize("page", PAGES)
async def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    names = await run_page(ROOT / page)

    flows = [value for value in names.values() if isinstance(value, Flow)]
    assert flows
    assert [flow.check() for flow in flows] == [()] * len(flows)


def test_the_program_of_the_readme_prints_what_the_readme_says(shell: Shell) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ((_, program),) = blocks_of(ROOT / "README.md")
    (shell.folder / "order.py").write_text(program, encoding="utf-8")

    ran = subprocess.run(
        [sys.executable, "order.py"], cwd=shell.folder, check=False, capture_output=True, text=True, timeout=60
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"```text\n{ran.stdout}```" in text


def test_the_commands_of_the_readme_do_what_it_says(shell: Shell) -> None:
    """The block of commands as it stands there, the worker in the background."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ((_, program),) = blocks_of(ROOT / "README.md")
    (shell.folder / "order.py").write_text(program, encoding="utf-8")
    on_one_machine, _ = (found[1] for found in COMMANDS.finditer(text) if "headrace worker" in found[1])
    worker_command, *commands = (shlex.split(line, comments=True)[1:] for line in on_one_machine.splitlines())
    worker = shell.begin(*worker_command)
    assert worker.stdout.readline().startswith("ready")

    printed = {command[0]: shell.headrace(*command) for command in commands}

    assert list(printed) == ["start", "status", "signal", "result"]
    assert "approval" in printed["status"]
    assert "shipped for 400" in printed["result"]
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0


@pytest.mark.broker
def test_the_commands_of_the_readme_for_kafka_do_what_it_says(shell: Shell, broker: str, app_name: AppName) -> None:
    """The other block, on the broker of the tests, under a name that nobody else uses."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    ((_, program),) = blocks_of(ROOT / "README.md")
    _, on_kafka = (found[1] for found in COMMANDS.finditer(text) if "headrace worker" in found[1])
    name = app_name("order").replace("-", "_")
    (shell.folder / f"{name}.py").write_text(program, encoding="utf-8")
    lines = [shlex.split(line.replace("order.py", f"{name}.py"), comments=True) for line in on_kafka.splitlines()]
    assert lines[2] == ["export", "HEADRACE_URL=kafka://127.0.0.1:9092", "HEADRACE_APP=order"]
    shell.env |= {"HEADRACE_URL": f"kafka://{broker}", "HEADRACE_APP": name}
    worker_command, *commands = (line[1:] for line in lines[3:])
    worker = shell.begin(*worker_command)
    assert worker.stdout.readline().startswith("ready")

    printed = {command[0]: shell.headrace(*command) for command in commands}

    assert list(printed) == ["start", "status"]
    assert "started" in printed["start"]
    assert "approval" in printed["status"]
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0


def test_a_program_takes_its_settings_from_the_environment_and_the_config_file(shell: Shell) -> None:
    """``headrace.toml`` says where, the environment goes before it: what the page on flows promises to programs too."""
    program = """
import asyncio
from headrace import App, Flow

app = App("settings").add(Flow("one").node("a", lambda: 1))

async def main():
    async with app.work():
        print((await (await app.start("one")).result(30)).output)

asyncio.run(main())
"""
    (shell.folder / "program.py").write_text(program, encoding="utf-8")
    (shell.folder / "headrace.toml").write_text('url = "embedded:./elsewhere"\nslots = "many"\n', encoding="utf-8")

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "program.py"]
        env = shell.env | environment
        return subprocess.run(command, cwd=shell.folder, env=env, check=False, capture_output=True, text=True, timeout=60)

    assert "setting 'slots'" in run().stderr
    assert run(HEADRACE_SLOTS="3").stdout == "1\n"
    assert (shell.folder / "elsewhere").is_dir()
    assert not (shell.folder / "data").exists()


def test_the_readme_of_the_engine_names_every_module() -> None:
    page = (ROOT / "engine" / "README.md").read_text(encoding="utf-8")
    modules = sorted((ROOT / "engine" / "headrace").glob("[!_]*.py"))

    assert [module.name for module in modules if f"`{module.name}`" not in page] == []


def test_the_semantics_name_every_event() -> None:
    page = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    names = [kind.__name__ for kind in events.EVENT_TYPES]
    types = [name[:1].lower() + name[1:] for name in names]

    assert "nodeStarted" in types
    assert [name for name in types if f"`{name}`" not in page] == []


def test_the_semantics_name_every_problem_of_a_blueprint() -> None:
    page = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    sources = [Path(module.__file__).read_text(encoding="utf-8") for module in (validation, validation_graph)]
    codes = {code for source in sources for code in re.findall(r'Problem\(\s*"([A-Z_]+)"', source)}

    assert len(codes) > 20
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []
