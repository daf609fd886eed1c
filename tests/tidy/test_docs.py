"""Links lead somewhere, and decisions stay short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

pytestmark = pytest.mark.tidy

DECISION_LINES_MAX = 60

FENCE = re.compile(r"^\s*(```|~~~)")
CODE_SPAN = re.compile(r"`[^`]*`")
INLINE_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'(][^)]*)?\s*\)")
REFERENCE_LINK = re.compile(r"^\s*\[[^\]]+\]:\s+<?(\S+?)>?(?:\s|$)")
ABSOLUTE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
DECISION_MENTIONED = re.compile(r"docs/decisions/[\w.-]+\.md")


def links_of(text: str) -> Iterator[tuple[int, str]]:
    """Targets of links, with their line; what stands in code is no link."""
    fence = None
    for number, line in enumerate(text.splitlines(), start=1):
        if mark := FENCE.match(line):
            if fence is None:
                fence = mark[1]
            elif fence == mark[1]:
                fence = None
            continue
        if fence is None:
            prose = CODE_SPAN.sub("", line)
            yield from ((number, found[1]) for found in INLINE_LINK.finditer(prose))
            yield from ((number, found[1]) for found in REFERENCE_LINK.finditer(prose))


def dead_links(path: Path, root: Path) -> Iterator[str]:
    for number, target in links_of(path.read_text(encoding="utf-8")):
        file = unquote(target.partition("#")[0])
        if not ABSOLUTE.match(target) and file and not (path.parent / file).exists():
            yield f"{path.relative_to(root)}:{number}: {target} leads nowhere"


def test_relative_links_lead_to_files_that_exist(project_files: list[Path], root: Path) -> None:
    pages = [path for path in project_files if path.suffix == ".md"]

    assert [line for page in pages for line in dead_links(page, root)] == []


def test_links_are_told_from_code() -> None:
    text = "[a](x.md) `[b](y.md)`\n```\n[c](z.md)\n```\n[d]: w.md\n![e](<v.png> 'title') [f](u.md#part)\n"

    assert [target for _, target in links_of(text)] == ["x.md", "w.md", "v.png", "u.md#part"]


def test_a_dead_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("[there](page.md) [web](https://example.com/x) [here](#part) [gone](gone.md)\n", encoding="utf-8")

    assert list(dead_links(page, tmp_path)) == ["page.md:1: gone.md leads nowhere"]


def test_decisions_have_a_number_a_title_and_a_status_and_are_short(root: Path) -> None:
    problems = []
    for path in sorted((root / "docs" / "decisions").glob("*.md")):
        lines = path.read_text(encoding="utf-8").splitlines()
        name = re.match(r"(\d{4})-[a-z0-9-]+\.md$", path.name)
        if name is None:
            problems.append(f"{path.name}: the name of a decision is NNNN-title-in-lower-case.md")
        elif not re.match(rf"# {name[1]}\W+\w", lines[0] if lines else ""):
            problems.append(f"{path.name}: begin with '# {name[1]}: ' and the title")
        if not any(line.lower().startswith("status:") for line in lines[:10]):
            problems.append(f"{path.name}: say 'Status: ' below the title")
        if len(lines) > DECISION_LINES_MAX:
            problems.append(f"{path.name}: {len(lines)} lines, at most {DECISION_LINES_MAX}: keep the reasons only")

    assert problems == []


def test_decisions_have_numbers_of_their_own(root: Path) -> None:
    numbers = [path.name[:4] for path in (root / "docs" / "decisions").glob("*.md")]

    assert sorted(numbers) == sorted(set(numbers))


def test_decisions_that_the_code_mentions_exist(project_files: list[Path], root: Path) -> None:
    lost = [
        f"{path.relative_to(root)}: {mention}"
        for path in project_files
        if path.suffix == ".py"
        for mention in DECISION_MENTIONED.findall(path.read_text(encoding="utf-8"))
        if not (root / mention).is_file()
    ]

    assert lost == []


def test_the_readme_marks_the_command_that_tests_everything(root: Path) -> None:
    """``.ci/run`` runs what stands between the marks, so a reader's command is the one that is known to work."""
    text = (root / "README.md").read_text(encoding="utf-8")
    marked = re.findall(r"<!-- test-command -->\s*```sh\n(.*?)```\s*<!-- /test-command -->", text, re.DOTALL)

    assert len(marked) == 1
    assert "pytest" in marked[0]
