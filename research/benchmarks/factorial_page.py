"""The tables of part C of research/protocol.md, from kept lines of factorial.py.

    python research/benchmarks/factorial_page.py research/results/probed_*.jsonl.gz
    python research/benchmarks/factorial_page.py FILES --short bytes:0.4

Prints, for each file (a model) and budget: the answers of each order of tokens with equal sizes and
with the sizes of a probe, and paired differences with Holm's correction over the table. With
``--short`` it prints one table of exact match, a column for each model.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from namm_mm.results.significance import holm
from namm_mm.results.statistics import Difference, Interval, mean_interval, paired_difference
from research.benchmarks.common import markdown

FULL = "full"
SIZES = ("equal", "probed")
LEVEL = 0.05

Lines = Sequence[Mapping[str, Any]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help=".jsonl.gz of factorial.py")
    parser.add_argument("--short", default="", help="one table for this budget")
    args = parser.parse_args()
    models = {file.name.removesuffix(".jsonl.gz"): lines_of(file) for file in args.files}
    if args.short:
        print(short({name.removeprefix("probed_"): models[name] for name in models}, args.short))
        return
    for name, lines in models.items():
        for budget in dict.fromkeys(line["budget"] for line in lines if line["budget"] != FULL):
            chosen = [line for line in lines if line["budget"] in (FULL, budget)]
            print(f"\n{name}, {budget}\n\n{table(chosen)}\n\n{differences(chosen)}")


def lines_of(file: Path) -> Lines:
    """Return the kept lines of a file."""
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        return [json.loads(line) for line in opened]


def short(models: Mapping[str, Lines], budget: str) -> str:
    """Return exact match under one budget: a row for each cell, a column for each model."""
    chosen = {
        name: [line for line in lines if line["budget"] in (FULL, budget)]
        for name, lines in models.items()
    }
    found = dict.fromkeys(cell for lines in chosen.values() for cell in cells(lines))
    rows = []
    for sizes, order in sorted(found, key=lambda cell: (FULL, *SIZES[::-1]).index(cell[0])):
        shown = [
            words(mean_interval(list(values(lines, sizes, order, "exact").values())))
            for lines in chosen.values()
        ]
        rows.append(
            ["full cache" if sizes == FULL else f"`{order}`", *shown, sizes * (sizes != FULL)]
        )
    return markdown(["order of tokens", *models, "sizes of heads"], rows)


def table(lines: Lines) -> str:
    """Return exact match and nats to the full cache: a row for each order, a column for sizes."""
    full = values(lines, FULL, FULL, "nats")
    shared = set.intersection(*(set(values(lines, *cell, "nats")) for cell in cells(lines)))
    samples = sorted(shared)
    rows = []
    for order in dict.fromkeys(line["order"] for line in lines):
        row = [order]
        for sizes in (FULL,) if order == FULL else SIZES:
            exact = values(lines, sizes, order, "exact")
            nats = values(lines, sizes, order, "nats")
            shown = mean_interval([exact[name] for name in samples])
            gap = mean_interval([nats[name] - full[name] for name in samples])
            row += [words(shown), words(gap, "+.2f")]
        rows.append(row if len(row) == 5 else [*row, "", ""])
    heads = [f"{sizes}: {what}" for sizes in SIZES for what in ("exact match", "nats to full")]
    return f"n = {len(samples)}\n\n" + markdown(["order", *heads], rows)


def differences(lines: Lines) -> str:
    """Return paired differences in exact match; bold ones hold at 5 % after Holm's correction."""
    orders = [order for sizes, order in cells(lines) if sizes == "probed"]
    pairs = [(("probed", order), ("equal", order)) for order in orders]
    pairs += [(("probed", "namm"), ("equal", order)) for order in orders if order != "namm"]
    pairs += [(("probed", "namm"), ("probed", order)) for order in orders if order != "namm"]
    pairs += [(("equal", "namm"), ("equal", order)) for order in orders if order != "namm"]
    pairs += [(("probed", "namm"), (FULL, FULL))]
    found = [
        paired_difference(values(lines, *one, "exact"), values(lines, *other, "exact"))
        for one, other in pairs
    ]
    made = [(pair, one) for pair, one in zip(pairs, found, strict=True) if one is not None]
    corrected = holm([one.p_value for _, one in made])
    rows = [
        [" ".join(first), " ".join(dict.fromkeys(second)), difference(one, bold=p < LEVEL)]
        for ((first, second), one), p in zip(made, corrected, strict=True)
    ]
    return markdown(["exact match of", "minus that of", "difference"], rows)


def cells(lines: Lines) -> list[tuple[str, str]]:
    """Return sizes and order of every cell, in the order of the lines."""
    return list(dict.fromkeys((line["sizes"], line["order"]) for line in lines))


def values(lines: Lines, sizes: str, order: str, key: str) -> dict[str, float]:
    """Return sample to value."""
    mine = (line for line in lines if (line["sizes"], line["order"]) == (sizes, order))
    return {line["sample"]: line[key] for line in mine}


def words(found: Interval | None, form: str = ".2f") -> str:
    """Return a mean with its interval."""
    if found is None:
        return ""
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def difference(found: Difference, *, bold: bool) -> str:
    """Return a difference, bold where it holds."""
    shown = words(found, "+.2f")
    return f"**{shown}**" if bold else shown


def keep(lines: Iterable[str], file: Path) -> None:
    """Write lines as a compressed file that is the same for the same lines."""
    text = "".join(line.rstrip("\n") + "\n" for line in lines)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
