"""``python -m tests.simulation.mutants [--jobs N] [NAME ...]``: hunt these mistakes, or all and write the table."""

from __future__ import annotations

import argparse
import sys

from .catalogue import CATALOGUE
from .hunt import SEEDS, Find, hunt, sort_of
from .table import write_table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many worlds each may take")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    finds: list[Find] = []
    for name in options.names or [mutant.name for mutant in CATALOGUE]:
        find = hunt(name, SEEDS[: options.seeds], options.jobs)
        finds.append(find)
        shown = "NOT FOUND" if find.failure is None else f"seed {find.failure.seed}: {sort_of(find.failure)}"
        sys.stdout.write(f"{name:32} {find.worlds:5} worlds {find.seconds:7.1f} s  {shown}\n")
        sys.stdout.flush()
    if not options.names:
        write_table(finds)
    return sum(find.failure is None for find in finds)


if __name__ == "__main__":
    sys.exit(main())
