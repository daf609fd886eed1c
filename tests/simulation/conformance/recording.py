"""What a real broker answered: kept in ``answers.json``, so that the model is checked where there is no broker, too.

    python -m tests.simulation.conformance.recording SERVERS [NAME...]

asks the broker anew, all programs or those whose names contain one of these words, and rewrites the file.
"""

from __future__ import annotations

__all__ = ["ABREAST", "lines", "read_recording", "record"]

import json
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.simulation.conformance.catalogue import PROGRAMS
from tests.simulation.conformance.real import run_on_real

FILE = Path(__file__).with_name("answers.json")

ABREAST = 4
"""How many programs are under way on the real broker at a time: most of what they do is to wait."""


def read_recording() -> Mapping[str, list[list[Any]]]:
    """The answers of the real broker, by the names of programs."""
    found: Mapping[str, list[list[Any]]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def lines(answers: Iterable[Any]) -> list[str]:
    """Answers as they are in the file, one in a line, which is how differences are read best."""
    return [json.dumps(answer, ensure_ascii=False) for answer in answers]


def record(servers: str, words: Iterable[str] = ()) -> list[str]:
    """Ask the broker, and rewrite the file. Gives the names of programs that were answered in another way than before."""
    wanted = list(words)
    names = [name for name in PROGRAMS if not wanted or any(word in name for word in wanted)]
    before = read_recording() if FILE.exists() else {}
    with ThreadPoolExecutor(ABREAST) as pool:
        given = dict(zip(names, pool.map(lambda name: run_on_real(PROGRAMS[name], servers), names), strict=True))
    known = {**before, **given}
    parts = [f"{json.dumps(name)}: [\n  " + ",\n  ".join(lines(known[name])) + "\n]" for name in PROGRAMS if name in known]
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    return [name for name in names if before.get(name) != given[name]]


if __name__ == "__main__":
    print("changed:", *record(sys.argv[1], sys.argv[2:]), sep="\n  ")  # noqa: T201 (a program for whoever looks)
