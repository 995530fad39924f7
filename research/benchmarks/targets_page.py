"""The tables of part D of research/protocol.md, from kept lines of factorial.py.

    python research/benchmarks/targets_page.py
    python research/benchmarks/targets_page.py --keep FOLDER

The first prints the tables of research/results/targets.md and of docs/results.md, and draws
docs/pictures/probed.png; the second keeps FOLDER/targets_MODEL.jsonl before.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from namm_mm.results.significance import holm
from namm_mm.results.statistics import Difference, mean_interval, paired_difference
from research.benchmarks.common import markdown
from research.benchmarks.factorial_page import (
    FULL,
    LEVEL,
    Lines,
    difference,
    keep,
    lines_of,
    values,
    words,
)
from research.benchmarks.results_page import KEPT, ROOT

BUDGETS = ("bytes:0.1", "bytes:0.2", "bytes:0.4", "bytes:0.6")
PICTURE = ROOT / "docs" / "pictures" / "probed.png"
NAMES = {
    "gemma_3_270m": "Gemma-3-270m",
    "qwen2_5_coder_0_5b": "Qwen2.5-Coder-0.5B",
    "smollm2": "SmolLM2-135M",
}
UNLEARNED = ("h2o", "snapkv", "attention_max", "random")
COLORS = {"namm": "#d62728", "h2o": "#1f77b4", "attention_max": "#8c564b", "random": "#ff7f0e"}


def main() -> None:
    """Keep lines, print the tables, draw the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", type=Path, help="folder of new lines")
    args = parser.parse_args()
    if args.keep is not None:
        for file in sorted(args.keep.glob("targets_*.jsonl")):
            lines = file.read_text(encoding="utf-8").splitlines()
            keep(lines, KEPT / f"{file.stem}.jsonl.gz")
    found = kept()
    for model, lines in found.items():
        print(f"\n## {NAMES[model]}\n\n{answers(lines)}\n\n{differences(lines)}")
    print(f"\n## Both sets of prompts, 40 % of the bytes\n\n{together(found)}")
    draw(found, PICTURE)


def kept() -> dict[str, Lines]:
    """Return the kept lines of each model."""
    files = sorted(KEPT.glob("targets_*.jsonl.gz"))
    return {re.sub(r"^targets_|\.jsonl\.gz$", "", file.name): lines_of(file) for file in files}


def under(
    lines: Lines, budget: str, sizes: str, order: str, key: str = "exact"
) -> dict[str, float]:
    """Return sample to value of one cell under one budget."""
    return values([line for line in lines if line["budget"] == budget], sizes, order, key)


def cells(lines: Lines) -> dict[tuple[str, str], list[str]]:
    """Return the budgets of each pair of sizes and order."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line["budget"] != FULL:
            budgets = found.setdefault((line["sizes"], line["order"]), [])
            budgets += [line["budget"]] * (line["budget"] not in budgets)
    return found


def answers(lines: Lines) -> str:
    """Return exact match: a row for each order and sizes, a column for each budget."""
    full = under(lines, FULL, FULL, FULL)
    tables = any(line["sizes"] == "table" for line in lines)
    shown = [*BUDGETS, *(["fraction:0.2"] if tables else [])]
    rows = [["full cache", "", *[words(mean_interval(list(full.values())))] * len(shown)]]
    for sizes, order in cells(lines):
        found = [list(under(lines, budget, sizes, order).values()) for budget in shown]
        rows.append(
            [f"`{order}`", sizes.replace("_", " "), *(words(mean_interval(f)) for f in found)]
        )
    heads = [f"{float(b.split(':')[1]):.0%} of the {_what(b)}" for b in shown]
    return f"n = {len(full)}\n\n" + markdown(["order of tokens", "sizes of heads", *heads], rows)


def _what(budget: str) -> str:
    return "bytes" if budget.startswith("bytes") else "tokens"


Cell = tuple[str, str, str]
"""Budget, sizes, order."""


def pairs(lines: Lines) -> Iterator[tuple[Cell, Cell]]:
    """Yield the comparisons that the protocol asks for, of those that were run."""
    run = {(budget, *cell) for cell, budgets in cells(lines).items() for budget in budgets}
    run.add((FULL, FULL, FULL))
    for budget in BUDGETS:
        mine = (budget, "probed", "namm")
        others = [(budget, "probed", order) for order in COLORS if order != "namm"]
        others += [
            (budget, "equal", order) for order in ("h2o", "snapkv", "attention_max", "random")
        ]
        others += [("fraction:0.2", "table", "random")] if budget == "bytes:0.2" else []
        others += [(FULL, FULL, FULL)]
        yield from ((mine, other) for other in others if mine in run and other in run)


def differences(lines: Lines) -> str:
    """Return paired differences in exact match; bold ones hold at 5 % after Holm's correction."""
    made: list[tuple[tuple[Cell, Cell], Difference]] = []
    for pair in pairs(lines):
        found = paired_difference(*(under(lines, *cell) for cell in pair))
        made += [(pair, found)] if found is not None else []
    corrected = holm([found.p_value for _, found in made])
    rows = [
        [_percent(first[0]), _cell(first), _cell(second), difference(found, bold=p < LEVEL)]
        for ((first, second), found), p in zip(made, corrected, strict=True)
    ]
    return markdown(["budget", "exact match of", "minus that of", "difference"], rows)


def _cell(cell: Cell) -> str:
    return "full cache" if cell[0] == FULL else f"{cell[2]}, {cell[1]}"


def _percent(budget: str) -> str:
    return f"{float(budget.split(':')[1]):.0%} of the {_what(budget)}"


def together(found: Mapping[str, Lines]) -> str:
    """Return exact match at 40 % of the bytes over the prompts of parts C and D."""
    rows = []
    for model, lines in found.items():
        before = lines_of(KEPT / f"probed_{model}.jsonl.gz")
        for cell in ((FULL, FULL, FULL), *(("bytes:0.4", *cell) for cell in cells(lines))):
            sets = [under(one, *cell) for one in (before, lines)]
            if all(sets) and any(line["budget"] == "bytes:0.4" for line in lines):
                exact = [value for one in sets for value in one.values()]
                shown = words(mean_interval(exact))
                rows.append([NAMES[model], _cell(cell), str(len(exact)), shown])
    return markdown(["model", "order and sizes", "n", "exact match"], rows)


def draw(found: Mapping[str, Lines], file: Path) -> None:
    """Draw exact match against the part of the bytes, a panel for each model with a curve."""
    found = {
        model: lines
        for model, lines in found.items()
        if any(len(set(run) & set(BUDGETS)) > 1 for run in cells(lines).values())
    }
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (model, lines) in zip(panels, found.items(), strict=True):
        full = mean_interval(list(under(lines, FULL, FULL, FULL).values()))
        if full is not None:
            axes.axhline(
                full.mean, color="black", linestyle="--", linewidth=0.8, label="full cache"
            )
        for (sizes, order), budgets in cells(lines).items():
            _curve(axes, lines, sizes, order, budgets)
        axes.set(title=NAMES[model], xlabel="part of the bytes, %", xlim=(5, 65), ylim=(0, 1))
    panels[0].set_ylabel("exact match")
    by_label = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        by_label.values(), by_label, loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    figure.savefig(file, dpi=110, metadata={"Software": None})


def _curve(axes: object, lines: Lines, sizes: str, order: str, budgets: list[str]) -> None:
    """Draw one line, or single points for equal sizes."""
    if order not in COLORS or sizes not in ("probed", "equal"):
        return
    shown = sorted(budget for budget in budgets if budget in BUDGETS)
    scores = [mean_interval(list(under(lines, b, sizes, order).values())) for b in shown]
    points = [(100 * float(b.split(":")[1]), s) for b, s in zip(shown, scores, strict=True) if s]
    probed = sizes == "probed"
    axes.errorbar(  # type: ignore[attr-defined]
        [x for x, _ in points],
        [s.mean for _, s in points],
        yerr=[[s.mean - s.low for _, s in points], [s.high - s.mean for _, s in points]],
        color=COLORS[order],
        marker="o" if probed else "x",
        linestyle="-" if probed else "none",
        capsize=2,
        label=f"{order}, {sizes} sizes",
    )


if __name__ == "__main__":
    main()
