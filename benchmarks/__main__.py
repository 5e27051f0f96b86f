"""`python -m benchmarks NAME …`: run cases in full and write their results."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.case import RESULTS, report
from benchmarks.registry import CASES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmark cases.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; default all")
    parser.add_argument("--size", type=int, nargs="*", help="sizes instead of the case's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="limit for each contestant")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for name in asked.names or CASES:
        if name not in CASES:
            parser.error(f"NAME = {name!r}: no such case; there are: {', '.join(CASES)}")
    for name in asked.names or CASES:
        case, lines = CASES[name], []
        case.run(case.smoke, asked.seed, asked.seconds)  # compiles kernels, which no contestant shall pay
        for size in asked.size or case.sizes:
            lines += case.run(size, asked.seed, asked.seconds)
            # written size by size: what is cut short leaves what it has
            table = report(name, case, lines, seed=asked.seed, seconds=asked.seconds, folder=asked.out)
        print(table.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
