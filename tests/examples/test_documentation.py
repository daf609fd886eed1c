"""What the pages show is run: a page's blocks of Python from the top to the bottom, as one program."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Flow, events, validation, validation_graph

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/writing-flows.md"]
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
