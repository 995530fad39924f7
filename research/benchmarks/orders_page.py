"""The tables of part G of research/protocol.md, from kept lines of factorial.py.

    python research/benchmarks/orders_page.py
    python research/benchmarks/orders_page.py --keep FOLDER

The first prints the tables of research/results/orders.md; the second keeps
FOLDER/orders_MODEL.jsonl and prose_MODEL.jsonl before. Every order has the head sizes of a probe.
The last table joins the prompts of parts D and G.
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
from research.benchmarks.long_prose import in_words
from research.benchmarks.results_page import KEPT
from research.benchmarks.targets_page import NAMES, under

NEW = ("namm:two_models_0", "namm:two_models_1")
"""The NAMMs of both seeds."""

PROSE = "prose_smollm2.jsonl.gz"
SHORT = "bytes:0.2"
OTHERS = ("namm", "attention_max", "h2o", "random")
CELL = (FULL, FULL, FULL)

Values = Mapping[str, float]


def main() -> None:
    """Keep lines, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of new lines")
    args = parser.parse_args()
    if args.keep is not None:
        for file in sorted([*args.keep.glob("orders_*.jsonl"), *args.keep.glob("prose_*.jsonl")]):
            lines = file.read_text(encoding="utf-8").splitlines()
            factorial_page.keep(lines, KEPT / f"{file.stem}.jsonl.gz")
    found = kept()
    for model, lines in found.items():
        print(f"\n## {NAMES[model]}\n\n{answers(lines)}\n\n{differences(lines)}")
    print(f"\n## Prose\n\n{in_words(factorial_page.lines_of(KEPT / PROSE))}")
    print(f"\n## Both sets of prompts, 20 % of the bytes\n\n{together(found)}")


def kept() -> dict[str, Lines]:
    """Return the kept lines of each model."""
    files = sorted(KEPT.glob("orders_*.jsonl.gz"))
    return {
        re.sub(r"^orders_|\.jsonl\.gz$", "", file.name): factorial_page.lines_of(file)
        for file in files
    }


def budgets_of(lines: Lines) -> list[str]:
    """Return the budgets of the lines, the smallest first."""
    return sorted({line["budget"] for line in lines if line["budget"] != FULL})


def samples_of(lines: Lines, budget: str) -> list[str]:
    """Return the samples that every cell of a budget has answered."""
    orders = {line["order"] for line in lines if line["budget"] == budget}
    return sorted(set.intersection(*(set(under(lines, budget, "probed", o)) for o in orders)))


def answers(lines: Lines) -> str:
    """Return exact match and nats to the full cache: a row for each order."""
    shared = {budget: samples_of(lines, budget) for budget in budgets_of(lines)}
    exact, nats = (under(lines, *CELL, key) for key in ("exact", "nats"))
    rows = [["full cache"]]
    for names in shared.values():
        rows[0] += [words(mean_interval([exact[name] for name in names])), ""]
    for order in dict.fromkeys(line["order"] for line in lines if line["order"] != FULL):
        row = [f"`{order}`"]
        for budget, names in shared.items():
            found = under(lines, budget, "probed", order)
            lost = under(lines, budget, "probed", order, "nats")
            row.append(words(mean_interval([found[name] for name in names if name in found])))
            gaps = [lost[name] - nats[name] for name in names if name in lost]
            row.append(words(mean_interval(gaps), "+.2f"))
        rows.append(row)
    heads = []
    for budget, names in shared.items():
        heads += [f"{_part(budget)}, n = {len(names)}: exact match", "nats to full"]
    return markdown(["order of tokens", *heads], rows)


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


def together(found: Mapping[str, Lines]) -> str:
    """Return differences of `namm` to the rules over the prompts of parts D and G."""
    made: list[tuple[list[str], Difference]] = []
    for model, lines in found.items():
        before = factorial_page.lines_of(KEPT / f"targets_{model}.jsonl.gz")
        for key, what in (("exact", "exact match"), ("nats", "nats")):
            values = {
                order: under(before, SHORT, "probed", order, key)
                | under(lines, SHORT, "probed", order, key)
                for order in OTHERS
            }
            for order in OTHERS[1:]:
                one = paired_difference(values["namm"], values[order])
                shared = str(len(set(values["namm"]) & set(values[order])))
                names = [NAMES[model], what, shared, f"`{order}`"]
                made += [(names, one)] if one is not None else []
    corrected = holm([one.p_value for _, one in made])
    rows = [
        [*names, difference(one, bold=p < LEVEL)]
        for (names, one), p in zip(made, corrected, strict=True)
    ]
    return markdown(["model", "measure", "n", "`namm` minus", "difference"], rows)


def mean_of(several: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each sample that all have."""
    shared = set.intersection(*(set(one) for one in several))
    return {name: sum(one[name] for one in several) / len(several) for name in sorted(shared)}


def _part(budget: str) -> str:
    return f"{float(budget.split(':')[1]):.0%}"


if __name__ == "__main__":
    main()
