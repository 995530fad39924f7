"""Fill the tables of docs/results.md from kept lines and records.

    python research/benchmarks/results_headline.py

``<!-- headline -->`` stands before the table over models and modalities at 40 % of the bytes,
``<!-- budgets -->`` before that of fresh prompts at four budgets, and ``<!-- long -->`` before that
of long prompts. The pictures are those of targets_page.py and results_field.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from namm_mm.results.statistics import Interval, mean_interval
from research.benchmarks.common import markdown
from research.benchmarks.factorial_page import FULL, cells, lines_of, values, words
from research.benchmarks.results_field import kept_records
from research.benchmarks.results_page import KEPT, ROOT
from research.benchmarks.targets_page import BUDGETS, NAMES, kept, under

LONG = KEPT / "long_smollm2.jsonl.gz"
PAGE = ROOT / "docs" / "results.md"
BUDGET = "bytes:0.4"
MARK = re.compile(r"(<!-- (headline|budgets|long) -->\n)\n*(?:\|.*\n)*\n*")
ROWS = {
    "full cache": (FULL, FULL),
    "**`probed(namm)`**": ("probed", "namm"),
    "`namm`": ("equal", "namm"),
    "`h2o`": ("equal", "h2o"),
    "`attention_max`": ("equal", "attention_max"),
    "`random`": ("equal", "random"),
}
"""For each row the sizes of heads and the order of tokens."""

FIELD = {
    "video, `pocket_video`": ("pocket_video", "accuracy", ".2f"),
    "control, Hopper with orders": ("pocket_rl_hopper_orders", "normalized_score", ".0f"),
}
"""Model, metric and digits of the columns that the field has."""


def filled(page: str) -> str:
    """Return the text of the page with its tables made anew."""
    made = {"headline": headline, "budgets": budgets, "long": long_prompts}
    return MARK.sub(lambda found: f"{found[1]}\n{made[found[2]]()}\n\n", page)


def headline() -> str:
    """Return scores at 40 % of the bytes: a row for each policy, a column for each model."""
    columns: dict[str, list[str]] = {}
    for model in ("smollm2", "qwen2_5_coder_0_5b", "gemma_3_270m"):
        lines = lines_of(KEPT / f"probed_{model}.jsonl.gz")
        chosen = [line for line in lines if line["budget"] in (FULL, BUDGET)]
        scores = [
            words(mean_interval(list(values(chosen, *cell, "exact").values())))
            for cell in ROWS.values()
        ]
        columns[f"text, {NAMES[model]}"] = scores
    for name, (model, metric, form) in FIELD.items():
        found = _field(model, metric)
        columns[name] = [words(found.get(cell), form) for cell in ROWS.values()]
    rows = [[name, *(column[row] for column in columns.values())] for row, name in enumerate(ROWS)]
    return markdown(["policy", *columns], rows)


def _field(model: str, metric: str) -> Mapping[tuple[str, str], Interval | None]:
    """Scores in the field by sizes and order."""
    records = [r for r in kept_records() if (r.model, r.metric) == (model, metric)]
    found = {}
    for sizes, order in ROWS.values():
        policy = f"probed({order})" if sizes == "probed" else order
        budget = FULL if sizes == FULL else BUDGET
        chosen = [r.value for r in records if (r.policy, r.budget) == (policy, budget)]
        found[sizes, order] = mean_interval([v for v in chosen if v is not None])
    return found


def budgets() -> str:
    """Return exact match on fresh prompts with sizes of a probe: a column for each budget."""
    rows = []
    for model, lines in kept().items():
        full = list(under(lines, FULL, FULL, FULL).values())
        rows.append([NAMES[model], "full cache", *[""] * len(BUDGETS), words(mean_interval(full))])
        for order in ("namm", "h2o", "attention_max", "random"):
            scores = [list(under(lines, b, "probed", order).values()) for b in BUDGETS]
            shown = [words(mean_interval(exact)) for exact in scores]
            if not any(shown):
                continue
            rows.append([NAMES[model], f"`{order}`", *shown, ""])
    heads = [f"{float(budget.split(':')[1]):.0%}" for budget in BUDGETS]
    return markdown(["model", "order of tokens", *heads, "all"], rows)


def long_prompts() -> str:
    """Return answers in long prompts: a row for each cell, over the prompts that all cells have."""
    lines = lines_of(LONG)
    found = {cell: values(lines, *cell, "nats") for cell in cells(lines)}
    shared = sorted(set.intersection(*map(set, found.values())))
    full = found[FULL, FULL]
    rows = []
    for cell, nats in found.items():
        exact, kept = (values(lines, *cell, key) for key in ("exact", "kept"))
        gap = mean_interval([nats[sample] - full[sample] for sample in shared])
        part = sum(kept[sample] for sample in shared) / len(shared)
        name = ["full cache", ""] if FULL in cell else [f"`{cell[1]}`", cell[0]]
        score = words(mean_interval([exact[sample] for sample in shared]))
        shown = "" if FULL in cell else words(gap, "+.2f")
        rows.append([*name, str(len(shared)), score, shown, f"{part:.0%}"])
    heads = ["order of tokens", "sizes of heads", "n", "exact match", "nats to full", "kept"]
    return markdown(heads, rows)


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
