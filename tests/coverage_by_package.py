"""`coverage json` as a table with one line per package of xraysynth; `make coverage` prints it."""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

COLUMNS = {
    "statements": "num_statements",
    "not run": "missing_lines",
    "branches": "num_branches",
    "not taken": "missing_branches",
}


def package(file: str) -> str:
    """The package that a module lies in; modules beside the packages are the base."""
    parts = Path(file).parts
    below = parts[parts.index("xraysynth") + 1 :] if "xraysynth" in parts else parts
    return below[0] if len(below) > 1 else "base"


def table(report: dict) -> str:
    """The lines of the table, in the order of the alphabet, the sum last."""
    totals: dict[str, Counter] = defaultdict(Counter)
    for file, found in report["files"].items():
        totals[package(file)].update(found["summary"])
    rows = [(name, totals[name]) for name in sorted(totals)] + [("all", report["totals"])]
    lines = [" ".join(["package".ljust(12), *(f"{name:>10}" for name in COLUMNS), "   covered"])]
    for name, found in rows:
        possible = found["num_statements"] + found["num_branches"]
        reached = found["covered_lines"] + found["covered_branches"]
        numbers = [f"{found[key]:>10}" for key in COLUMNS.values()]
        lines.append(" ".join([name.ljust(12), *numbers, f"{reached / max(possible, 1):>9.1%}"]))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.load(sys.stdin)))
