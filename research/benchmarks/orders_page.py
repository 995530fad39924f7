"""The tables of part G of research/protocol.md, from kept lines of factorial.py.

    python research/benchmarks/orders_page.py
    python research/benchmarks/orders_page.py --keep FOLDER

The first prints the tables of research/results/orders.md; the second keeps
FOLDER/orders_MODEL.jsonl before. Every order has the head sizes of a probe.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from namm_mm.results.significance import holm
from namm_mm.results.statistics import Difference, mean_interval, paired_difference
from research.benchmarks import factorial_page
from research.benchmarks.common import markdown
from research.benchmarks.factorial_page import FULL, LEVEL, Lines, difference, words
from research.benchmarks.results_page import KEPT
from research.benchmarks.targets_page import NAMES, under

NEW = ("namm:two_models_0", "namm:two_models_1")
"""The NAMMs of both seeds."""

OTHERS = ("namm", "attention_max", "h2o", "random")
CELL = (FULL, FULL, FULL)

Values = Mapping[str, float]


def main() -> None:
    """Keep lines, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of new lines")
    args = parser.parse_args()
    if args.keep is not None:
        for file in sorted(args.keep.glob("orders_*.jsonl")):
            lines = file.read_text(encoding="utf-8").splitlines()
            factorial_page.keep(lines, KEPT / f"{file.stem}.jsonl.gz")
    for model, lines in kept().items():
        print(f"\n## {title(model)}\n\n{answers(lines)}\n\n{differences(lines)}")


def kept() -> dict[str, Lines]:
    """Return the kept lines of each model and split."""
    files = sorted(KEPT.glob("orders_*.jsonl.gz"))
    return {
        re.sub(r"^orders_|\.jsonl\.gz$", "", file.name): factorial_page.lines_of(file)
        for file in files
    }


def title(model: str) -> str:
    """Return the name of a file's model, and its split."""
    name, _, split = model.partition("_validation")
    return NAMES[name] + (", validation" if split or model.endswith("_validation") else "")


def budgets_of(lines: Lines) -> list[str]:
    """Return the budgets of the lines, the smallest first."""
    return sorted({line["budget"] for line in lines if line["budget"] != FULL})


def samples_of(lines: Lines) -> set[str]:
    """Return the samples that every cell has answered."""
    cells = {(line["budget"], line["sizes"], line["order"]) for line in lines}
    return set.intersection(*(set(under(lines, *cell)) for cell in cells))


def answers(lines: Lines) -> str:
    """Return exact match and nats to the full cache: a row for each order."""
    shared, budgets = samples_of(lines), budgets_of(lines)
    full = {key: under(lines, *CELL, key) for key in ("exact", "nats")}
    exact = words(mean_interval([full["exact"][name] for name in sorted(shared)]))
    rows = [["full cache", *[exact, ""] * len(budgets)]]
    for order in dict.fromkeys(line["order"] for line in lines if line["order"] != FULL):
        row = [f"`{order}`"]
        for budget in budgets:
            found = under(lines, budget, "probed", order)
            nats = under(lines, budget, "probed", order, "nats")
            row.append(words(mean_interval([found[name] for name in sorted(shared)])))
            gaps = [nats[name] - full["nats"][name] for name in sorted(shared)]
            row.append(words(mean_interval(gaps), "+.2f"))
        rows.append(row)
    heads = [f"{_part(b)}: {what}" for b in budgets for what in ("exact match", "nats to full")]
    return f"n = {len(shared)}\n\n" + markdown(["order of tokens", *heads], rows)


def differences(lines: Lines) -> str:
    """Return paired differences; bold ones hold at 5 % after Holm's correction."""
    run = {line["order"] for line in lines}
    new = [order for order in NEW if order in run]
    made: list[tuple[list[str], Difference]] = []
    for budget in budgets_of(lines):
        for key, what in (("exact", "exact match"), ("nats", "nats")):
            by = {order: under(lines, budget, "probed", order, key) for order in run - {FULL}}
            by |= {"mean of both seeds": mean_of([by[order] for order in new])} if new else {}
            firsts = [*new, "mean of both seeds"] if new else ["namm"]
            for first in firsts:
                for second in (order for order in OTHERS if order in run and order != first):
                    found = paired_difference(by[first], by[second])
                    names = [_part(budget), what, f"`{first}`", f"`{second}`"]
                    made += [(names, found)] if found is not None else []
    corrected = holm([found.p_value for _, found in made])
    rows = [
        [*names, difference(found, bold=p < LEVEL)]
        for (names, found), p in zip(made, corrected, strict=True)
    ]
    return markdown(["budget", "measure", "of", "minus that of", "difference"], rows)


def mean_of(several: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each sample that all have."""
    shared = set.intersection(*(set(one) for one in several))
    return {name: sum(one[name] for one in several) / len(several) for name in sorted(shared)}


def _part(budget: str) -> str:
    return f"{float(budget.split(':')[1]):.0%}"


if __name__ == "__main__":
    main()
