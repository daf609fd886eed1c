"""A survey of a small tree that the test itself writes, so it knows how many lines and functions are in it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from headrace import App, Flow

if TYPE_CHECKING:
    from conftest import Shell

LIMIT = 12


class Expected(NamedTuple):
    """What is in one file, as it was written."""

    lines: int
    functions: int
    classes: int
    longest: int
    long: int


def write_tree(folder: Path, random_: random.Random, files: int = 40) -> dict[str, Expected]:
    """Files of functions of random lengths, in folders; what is expected of them is what was written."""
    expected = {}
    for number in range(files):
        name = f"{random_.choice(['', 'a/', 'a/b/', 'c d/'])}file_{number:02}.py"
        lengths = [random_.randint(2, 2 * LIMIT) for _ in range(random_.randint(0, 6))]
        methods = [random_.randint(2, LIMIT) for _ in range(random_.randint(0, 3))]
        lines = ['"""No def counts: def this(): is text."""', "import os, json", "x = 1"]
        for index, length in enumerate(lengths):
            lines += ["@staticmethod"] * random_.randint(0, 1)  # Decorators are not of the function's length.
            lines += [f"{random_.choice(['', 'async '])}def f{index}():", *["    x = 1"] * (length - 1)]
        if methods:
            lines.append("class C:")
        for index, length in enumerate(methods):
            lines += [f"    def m{index}(self):", *["        x = 1"] * (length - 1)]
        text = "\n".join(lines) + random_.choice(["", "\n"])
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        every = [*lengths, *methods]
        expected[name] = Expected(
            len(lines), len(every), bool(methods), max(every, default=0), sum(n > LIMIT for n in every)
        )
    return expected


def write_others(folder: Path) -> dict[str, Expected]:
    """What is easily got wrong: an empty file, one that is not UTF-8, two that are no Python, folders to leave alone."""
    (folder / "empty.py").write_bytes(b"")
    (folder / "latin.py").write_bytes("# -*- coding: latin-1 -*-\ndef f():\n    return 'é'\n".encode("latin-1"))
    (folder / "broken.py").write_text("def f(:\n", encoding="utf-8")
    (folder / "nulls.py").write_bytes(b"x = 1\0\n")
    (folder / "text.txt").write_text("def f(): pass\n", encoding="utf-8")
    for hidden in (".venv", "environment"):
        (folder / hidden).mkdir()
        (folder / hidden / "hidden.py").write_text("def f(): pass\n", encoding="utf-8")
    (folder / "environment" / "pyvenv.cfg").touch()
    return {"empty.py": Expected(0, 0, 0, 0, 0), "latin.py": Expected(3, 1, 0, 2, 0)}


@pytest.fixture
def tree(tmp_path: Path, seed: int) -> tuple[Path, dict[str, Expected]]:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder, write_tree(folder, random.Random(seed)) | write_others(folder)


def table_after(report: str, title: str) -> list[list[str]]:
    """The rows of the table below the heading *title*, without its first two lines."""
    below = report.partition(f"\n## {title}")[2].partition("\n\n")[2].partition("\n\n")[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in below.splitlines()[2:]]


def check_report(report: str, expected: dict[str, Expected]) -> None:
    *rows, total = table_after(report, "Files")
    found = {row[0]: Expected(int(row[1]), int(row[2]), int(row[3]), int(row[5]), 0) for row in rows}
    assert found == {name: it._replace(long=0) for name, it in expected.items()}
    assert [name for name, *_ in rows] == sorted(expected, key=lambda name: (-expected[name].longest, name))
    sums = [sum(getattr(it, what) for it in expected.values()) for what in ("lines", "functions", "classes")]
    assert [cell.strip("*") for cell in total[:4]] == [f"{len(expected)} files", *map(str, sums)]
    assert [row[0] for row in table_after(report, "Not parsed")] == ["broken.py", "nulls.py"]
    long = table_after(report, "Functions longer than")
    assert len(long) == sum(it.long for it in expected.values())
    assert [int(row[2]) for row in long] == sorted((int(row[2]) for row in long), reverse=True)


def check_output(output: dict[str, Any], expected: dict[str, Expected]) -> None:
    for what in ("lines", "functions", "classes"):
        assert output[what] == sum(getattr(it, what) for it in expected.values())
    assert (output["files"], output["notParsed"]) == (len(expected), 2)
    assert output["longest"] == max(it.longest for it in expected.values())
    assert output["verdict"] == f"{sum(it.long for it in expected.values())} functions are longer than {LIMIT} lines"


async def test_a_survey_counts_what_was_written(
    example: Callable[[str], ModuleType], url: str, tree: tuple[Path, dict[str, Expected]], tmp_path: Path
) -> None:
    folder, expected = tree
    app = example("survey").app

    async with app.work(url):
        given = {"path": str(folder), "limit": LIMIT, "report": str(tmp_path / "report.md")}
        handle = await app.start("survey", given)
        output = (await handle.result(30)).unwrap()

    assert output["report"] == str(tmp_path / "report.md")
    assert output["approval"] == "not asked for"
    check_output(output, expected)
    check_report((tmp_path / "report.md").read_text(encoding="utf-8"), expected)


@pytest.mark.parametrize("processes_max", [0, 2], ids=["threads", "processes"])
def test_the_command_line_gives_the_same(
    shell: Shell, examples: Path, tree: tuple[Path, dict[str, Expected]], processes_max: int
) -> None:
    folder, expected = tree
    given = {"path": folder.name, "limit": LIMIT}
    shell.env["HEADRACE_PROCESSES_MAX"] = str(processes_max)

    result = shell.json("run", examples / "survey" / "survey.py", "survey", "--input", json.dumps(given))

    assert result["status"] == "completed"
    check_output(result["output"], expected)
    check_report((shell.folder / "survey-report.md").read_text(encoding="utf-8"), expected)


async def test_a_tree_without_long_functions_takes_the_other_branch(
    example: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    (tmp_path / "short.py").write_text("def f():\n    pass\n", encoding="utf-8")
    app = example("survey").app

    async with app.work("memory:"):
        handle = await app.start("survey", {"path": str(tmp_path), "limit": 2, "report": str(tmp_path / "report.md")})
        result = await handle.result(30)
        skipped = [event["node"] async for event in handle.events() if event["type"] == "nodeSkipped"]

    assert result.unwrap()["verdict"] == "no function is longer than 2 lines"
    assert "findings" in skipped
    assert "clean" not in skipped


async def until_it_waits(handle: Any) -> None:
    async for event in handle.events(follow=True):
        if event["type"] == "runAwaiting":
            return


async def test_an_approval_is_waited_for_and_stands_in_the_report(
    example: Callable[[str], ModuleType], url: str, tmp_path: Path
) -> None:
    (tmp_path / "one.py").write_text("x = 1\n", encoding="utf-8")
    report = tmp_path / "report.md"
    app = example("survey").app

    async with app.work(url):
        handle = await app.start("survey", {"path": str(tmp_path), "approve": True, "report": str(report)})
        await until_it_waits(handle)
        assert not report.exists()
        assert (await handle.signal("approved", {"by": "Ada"})).outcome == "applied"
        output = (await handle.result(30)).unwrap()

    assert output["approval"] == "approved by Ada"
    assert "Approval: approved by Ada." in report.read_text(encoding="utf-8")


async def test_a_rejected_report_is_not_written(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n", encoding="utf-8")
    report = tmp_path / "report.md"
    app = example("survey").app

    async with app.work("memory:"):
        handle = await app.start("survey", {"path": str(tmp_path), "approve": True, "report": str(report)})
        await until_it_waits(handle)
        assert (await handle.resume("approval", "reject", "too early")).outcome == "applied"
        result = await handle.result(30)

    assert result.unwrap() == {"report": None, "reason": "too early"}
    assert not report.exists()


async def test_without_an_answer_the_survey_goes_on_by_itself(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    """The timeout of the wait, made a short one in the blueprint."""
    (tmp_path / "one.py").write_text("x = 1\n", encoding="utf-8")
    survey = example("survey").survey
    document = survey.to_json()
    (approval,) = (node for node in document["nodes"] if node["id"] == "approval")
    approval["params"]["timeout"] = "50ms"
    app = App("survey").add(Flow.from_json(document, survey.registry))

    async with app.work("memory:"):
        given = {"path": str(tmp_path), "approve": True, "report": str(tmp_path / "report.md")}
        result = await (await app.start("survey", given)).result(30)

    assert result.unwrap()["approval"] == "nobody answered in time"
    assert (tmp_path / "report.md").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [({"path": "no/such/folder"}, "no/such/folder"), ({"pth": "."}, "path"), (None, "path")],
)
async def test_an_input_that_cannot_be_used_fails_with_what_is_wrong(
    example: Callable[[str], ModuleType], given: Any, said: str
) -> None:
    app = example("survey").app

    async with app.work("memory:"):
        result = await (await app.start("survey", given)).result(30)

    assert result.status == "failed"
    (error,) = (error for error in result.errors if error["nodeId"] == "find")
    assert said in error["message"]


def test_complexity_is_what_one_counts_by_hand(example: Callable[[str], ModuleType]) -> None:
    example("survey")
    measures = example("source_measures")
    text = """
def none():
    return 1
def some(a, b):
    if a and b or not a:            # if, and, or: 3
        return [x for x in a if x]  # for, if: 2
    for y in b:                     # 1
        try:
            pass
        except ValueError:          # 1
            def inner():
                return 1 if a else 2
    return inner
"""

    measured = measures.measure(text, "text", limit_lines=8)

    assert measured["functions"] == 3
    assert measured["complexity"] == 8
    assert [(it["name"], it["complexity"]) for it in measured["long"]] == [("some", 8)]


def test_the_report_keeps_its_tables_whatever_a_file_is_called(example: Callable[[str], ModuleType]) -> None:
    example("survey")
    report = example("survey_report")
    measured = {"lines": 1, "functions": 0, "classes": 0, "complexity": 0, "longest": {"name": None, "lines": 0, "line": 0}}
    ranking = {
        "files": [{"file": "a|b.py", **measured}],
        "errors": [{"file": "c\nd.py", "message": "x | y\nz"}],
        "totals": {"files": 1, "lines": 1, "functions": 0, "classes": 0, "longest": 0, "complexity": 0, "imports": {}},
    }

    text = report.write("root", 5, ranking, {"verdict": "v", "functions": []}, "not asked for")

    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(len(re.split(r"(?<!\\)\|", row)) in {4, 9} for row in rows)
    assert "| `c d.py` | x \\| y z |" in rows
