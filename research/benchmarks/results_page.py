"""Make docs/results.md, with its plots, from records: the numbers of record.

    namm-mm transfer --configs research/configs experiment=pocket_full checkpoint=FILE
In `research/`:

    python benchmarks/results_page.py RUN_FOLDER ...     keep their records, then write the page;
                                                         cells may have been run apart, and what
                                                         two runs have counts once, as the first
    python benchmarks/results_page.py --add RUN_FOLDER   add them to what is kept of the experiment;
                                                         and replace what is measured anew
    python benchmarks/results_page.py                    write the page again from what is kept

Records are kept small, as research/results/NAME.jsonl, NAME being the experiment's; a run of
the same experiment replaces it, unless it is added.

Plots need matplotlib: `pip install -c constraints.txt -e '.[report]'`.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.cells import FULL, NAMM, by_metric, cell_of, group
from namm_mm.results.comparisons import significant
from namm_mm.results.rows import Row, result_rows
from namm_mm.results.slim import read_slim, write_slim
from namm_mm.results.statistics import Interval
from namm_mm.runs import read_records, read_state
from namm_mm.runs.keys import key_of

DOCS = Path(__file__).parents[2] / "docs"
COLORS = {
    "full": "black", "namm": "#d62728", "h2o": "#1f77b4", "l2": "#9467bd", "recency": "#2ca02c",
    "random": "#ff7f0e", "attention_max": "#8c564b", "attention_ema": "#e377c2",
}  # fmt: skip
LEGEND = (
    "Means with 95 % intervals: Wilson's for right-or-wrong scores, else bootstrap over samples "
    "(BCa below 30). "
    "*NAMM - this* is paired by sample (or environment seed); it is **bold** where it holds at 5 % "
    "after Holm's correction over the table (paired sign-flip test). `match:namm` holds as many "
    "tokens as the NAMM did on that sample, in every layer after every update, the same for all "
    "heads; `match_heads:namm` as many in every head, `match_total:namm` as many in all, the same "
    "for all layers and heads. Tokens are per head at the end, bytes are those of the whole cache, "
    "time is to the first token (control: of each step). Failed samples are counted and are in no "
    "mean. Everything here was generated and trained locally, and compares with no published score."
)


def main() -> None:
    """Keep the records of runs, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    parser.add_argument("--add", action="store_true", help="keep what is there of the experiment")
    parser.add_argument("--docs", type=Path, default=DOCS)
    args = parser.parse_args()
    kept = args.docs / "results"
    found: dict[str, list[Record]] = defaultdict(list)
    notes: dict[str, dict[str, None]] = defaultdict(dict)
    for run in args.runs:
        records, problems = read_records(run)
        for problem in problems:
            print(f"{run}: {problem}")
        if read_state(run).status != "ok":
            print(f"{run}: this run has not finished; {len(records)} records are kept")
        found[records[0].experiment] += records
        notes[records[0].experiment] |= dict.fromkeys(read_state(run).notes)
    for name, several in found.items():
        if args.add and (before := kept / f"{name}.jsonl").is_file():
            several = several + read_slim(before)
            lines = before.with_suffix(".notes.txt").read_text(encoding="utf-8").splitlines()
            notes[name] = dict.fromkeys(lines) | notes[name]
        records = list({key_of(record): record for record in reversed(several)}.values())[::-1]
        file = kept / f"{name}.jsonl"
        print(f"{file}: {write_slim(file, records) / 1024:.0f} KiB of {len(records)} records")
        file.with_suffix(".notes.txt").write_text("\n".join(notes[name]) + "\n", encoding="utf-8")
    page = args.docs / "results.md"
    page.write_text(write(kept), encoding="utf-8")
    print(page)


def write(kept: Path) -> str:
    """The page, from all records in `kept`; plots are drawn beside them."""
    parts = [
        "# Results",
        "Written by `python research/benchmarks/results_page.py`; do not edit.",
        LEGEND,
    ]
    for file in sorted(kept.glob("*.jsonl")):
        records = read_slim(file)
        parts.append(f"## {file.stem}")
        parts.append(provenance(records))
        notes = file.with_suffix(".notes.txt")
        if notes.is_file():
            parts += [f"> {line}" for line in notes.read_text(encoding="utf-8").splitlines()]
        for number, cell in enumerate(dict.fromkeys(map(cell_of, records)), start=1):
            own = [_of_one_run(record) for record in records if cell_of(record) == cell]
            metrics = by_metric(group(own)[cell])
            for metric, methods in metrics.items():
                title, picture = cell.title, f"{file.stem}-{number}"
                if len(metrics) > 1:
                    title += f": {metric.replace('_', ' ')}"
                    picture += f"-{metric}"
                measured = [record for found in methods.values() for record in found]
                parts += section(title, measured, kept / picture)
    return "\n\n".join(part for part in parts if part) + "\n"


def _of_one_run(record: Record) -> Record:
    """What is kept of an experiment counts as one run, whichever run measured it."""
    return replace(record, provenance=replace(record.provenance, run=""))


CURVE = ("fraction", "tokens", "pool")
SPREAD = ("match_heads", "match_total")


def section(title: str, records: Sequence[Record], picture: Path) -> list[str]:
    """Tables and plots of one cell and metric: at the NAMM's sizes, by family, along the curve."""
    kinds = {r.budget: r.budget.partition(":")[0] for r in records}
    matched = _matched(records)
    spread = [r for r in records if kinds[r.budget] in SPREAD]
    curve = [
        r
        for r in records
        if kinds[r.budget] in CURVE
        and r.policy != "window"  # its size is what it re-encodes, and no limit of a cache
        and (r.policy, r.budget) != (NAMM, matched)
    ]
    limited = {id(record) for record in (*spread, *curve)}
    own = [r for r in records if id(r) not in limited]
    rows, families = result_rows(own), result_rows(own, by_family=True)
    parts = [f"### {title}", main_table(rows)]
    if len({row.family for row in families}) > 1:
        parts += ["By family:", family_table(families)]
        parts.append(image(picture, "by-family", draw_families(families, picture, "by-family")))
    if spread:
        names, asked = {r.policy for r in spread}, {r.sample for r in spread}
        same = [r for r in own if r.sample in asked and r.policy in {FULL, NAMM, *names}]
        parts += [
            "The same tokens in all, spread in other ways, on fewer samples: what the NAMM knows "
            "of where memory is needed, and what is left when baselines are told.",
            main_table(sorted(result_rows([*same, *spread]), key=_by_policy)),
        ]
    limits, asked = {r.budget for r in curve}, {r.sample for r in curve}
    shown = [r for r in records if r.sample in asked and r.policy != "window"]
    sizes = {_limit(budget) for budget in limits}
    along = [
        r
        for r in shown
        if r.budget in limits
        or r.policy == FULL
        or (r.policy == NAMM and kinds[r.budget] in CURVE and _limit(r.budget) in sizes)
    ]
    if curve:
        found = [row for row in result_rows(along) if row.score]
        parts += [
            "At equal parts of the cache, the same in all layers, on fewer samples (`pool`: the "
            "heads of a layer share them):",
            curve_table(found),
        ]
        parts.append(image(picture, "curve", draw_curve(found, picture, "curve")))
    return parts


def _matched(records: Sequence[Record]) -> str:
    """The NAMM's budget that baselines match: its own rule, else what most samples ran under.

    Nothing, where there are baselines and none of them matches it.
    """
    others = [r for r in records if r.policy not in (FULL, NAMM, "window")]
    if others and not any(r.budget.startswith("match") for r in others):
        return ""
    found = Counter(r.budget for r in records if r.policy == NAMM)
    own = [budget for budget in found if budget.startswith("threshold")]
    return own[0] if own else max(found, key=found.__getitem__, default="")


def _by_policy(row: Row) -> tuple[int, str]:
    return (row.method.policy not in (FULL, NAMM), row.method.policy)


def main_table(rows: Sequence[Row]) -> str:
    """One line for each policy."""
    places = words.decimals(rows)
    head = ["policy", "n", rows[0].metric.replace("_", " "), "to full", "NAMM - this", "kept"]
    lines = []
    for row, (to_full, from_namm) in zip(rows, differences(rows, places), strict=True):
        budget = "" if row.method.budget == FULL else f" {row.method.budget}"
        later = words.duration(row.token_seconds or row.first_token_seconds)
        lines.append(
            [
                f"{row.method.policy}{budget}",
                f"{row.n}" + (f" ({row.errors} failed)" if row.errors else ""),
                words.with_ends(row.score, places),
                to_full,
                from_namm,
                words.percent(row.kept_fraction),
                words.tokens(row.tokens_final),
                words.size(row.bytes_final),
                later,
            ]
        )
    return markdown([*head, "tokens", "bytes", "time"], lines)


def family_table(rows: Sequence[Row]) -> str:
    """Scores by family and policy, with the paired difference of the NAMM to each baseline."""
    places = words.decimals(rows)
    policies = list(dict.fromkeys(row.method.policy for row in rows))
    cells = {(row.family, row.method.policy): row for row in rows}
    pairs = zip(cells, differences(rows, places), strict=True)
    from_namm = {key: word for key, (_, word) in pairs}
    lines = []
    for family in dict.fromkeys(row.family for row in rows):
        line = [family, str(max(row.n for row in rows if row.family == family))]
        for name in policies:
            row = cells.get((family, name))
            line.append("-" if row is None else words.with_ends(row.score, places))
        lines.append(line)
    paired = []
    for family in dict.fromkeys(row.family for row in rows):
        found = [from_namm.get((family, name), "-") for name in policies if name != NAMM]
        paired.append([family, *found])
    others = [f"NAMM - {name}" for name in policies if name != NAMM]
    return (
        markdown(["family", "n", *policies], lines) + "\n\n" + markdown(["family", *others], paired)
    )


def curve_table(rows: Sequence[Row]) -> str:
    """Scores by part of the cache and policy; the NAMM's difference to each below."""
    places = words.decimals(rows)
    limited = [row for row in rows if row.method.policy != FULL]
    labels = [label for label in dict.fromkeys(map(_label, limited)) if label != NAMM]
    cells = {(_size(row), _label(row)): row for row in limited}
    of_row = {id(row): word for row, (_, word) in zip(rows, differences(rows, places), strict=True)}
    lines, paired = [], []
    for size in sorted({_size(row) for row in limited}):
        found = [cells.get((size, label)) for label in (NAMM, *labels)]
        shown = f"{size:.0%}" if size <= 1 else f"{size:g}"
        lines.append(
            [shown, *("-" if r is None else words.with_ends(r.score, places) for r in found)]
        )
        paired.append([shown, *("-" if r is None else of_row[id(r)] for r in found[1:])])
    full = next((row for row in rows if row.method.policy == FULL), None)
    note = (
        f"\n\nThe full cache: {words.with_ends(full.score, places)} (n = {full.n})." if full else ""
    )
    table = markdown(["limit", NAMM, *labels], lines)
    names = [f"NAMM - {label}" for label in labels]
    return table + note + "\n\n" + markdown(["limit", *names], paired)


def _size(row: Row) -> float:
    return _limit(row.method.budget)


def _limit(budget: str) -> float:
    """The limit as a number: a part, or tokens."""
    return float(budget.split(":")[1])


def _label(row: Row) -> str:
    """The policy; others than the NAMM say so where the heads of a layer share their room."""
    shared = row.method.budget.startswith("pool:") and row.method.policy != NAMM
    return f"{row.method.policy} (pool)" if shared else row.method.policy


def differences(rows: Sequence[Row], places: int) -> list[tuple[str, str]]:
    """The paired differences of a table, bold where they hold after Holm's correction over it."""
    held = significant(rows)

    def word(interval: Interval | None, *, holds: bool) -> str:
        text = words.with_ends(interval, places, signed=True)
        return f"**{text}**" if holds else text

    return [
        (
            word(row.to_full, holds=place in held.to_full),
            word(row.from_namm, holds=place in held.from_namm),
        )
        for place, row in enumerate(rows)
    ]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; all columns but the first are aligned right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *lines))


def provenance(records: Sequence[Record]) -> str:
    """Where the numbers come from, in one paragraph."""
    runs = {r.provenance.run: r.provenance for r in records}
    seeds = sorted({r.seed for r in records})
    facts = [
        f"run {p.run}, configuration {p.config_hash[:12]}, commit {p.commit[:12] or 'unknown'}, "
        f"{p.device}, " + ", ".join(f"{k} {v}" for k, v in p.versions.items())
        for p in runs.values()
    ]
    return f"{'; '.join(facts)}. Seeds {', '.join(map(str, seeds))}."


def image(picture: Path, kind: str, drawn: bool) -> str:
    """The Markdown of a plot, if it was drawn."""
    return f"![{kind}](results/{picture.name}-{kind}.png)" if drawn else ""


def draw_families(rows: Sequence[Row], picture: Path, kind: str) -> bool:
    """Bars of every policy for every family, with intervals."""
    from matplotlib.figure import Figure

    families = list(dict.fromkeys(row.family for row in rows))
    by_policy: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.score:
            by_policy[row.method.policy].append(row)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(by_policy)
    for place, (name, own) in enumerate(by_policy.items()):
        scores = [row.score for row in own if row.score]
        at = [
            families.index(row.family) + (place - len(by_policy) / 2 + 0.5) * width for row in own
        ]
        below = [max(0.0, s.mean - s.low) for s in scores]  # rounding at a score of 0
        errors = [below, [max(0.0, s.high - s.mean) for s in scores]]
        heights = [s.mean for s in scores]
        axes.bar(at, heights, width, label=name, color=COLORS.get(name), yerr=errors, ecolor="gray")
    axes.set_xticks(range(len(families)), families)
    axes.set_ylabel(rows[0].metric.replace("_", " "))
    figure.legend(loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(f"{picture}-{kind}.png", dpi=100, metadata={"Software": None})
    return True


def draw_curve(rows: Sequence[Row], picture: Path, kind: str) -> bool:
    """Score against the part of the cache that is kept, with intervals; or against tokens.

    Where limits are tokens, a part of the cache says how long an episode was and not what was kept.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lines[_label(row)].append(row)
    in_tokens = any(row.method.budget.startswith("tokens:") for row in rows)

    def size(row: Row) -> float:
        return _size(row) if in_tokens else 100 * (row.kept_fraction or 0.0)

    for name, own in lines.items():
        own = own if name == FULL else sorted(own, key=size)
        scores = [row.score for row in own if row.score]
        if name == FULL:
            axes.axhline(scores[0].mean, color="black", linewidth=0.8, linestyle="--", label=name)
            continue
        below = [max(0.0, s.mean - s.low) for s in scores]  # rounding at a score of 0
        errors = [below, [max(0.0, s.high - s.mean) for s in scores]]
        axes.errorbar(
            [size(row) for row in own], [s.mean for s in scores],
            yerr=errors, marker="x" if " " in name else "o", capsize=2, label=name,
            color=COLORS.get(name.split()[0]), linewidth=2.2 if name == NAMM else 1.2,
        )  # fmt: skip
    kept = "limit, tokens" if in_tokens else "tokens kept at the end, %"
    axes.set(xlabel=kept, ylabel=rows[0].metric.replace("_", " "))
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(f"{picture}-{kind}.png", dpi=100, metadata={"Software": None})
    return True


if __name__ == "__main__":
    main()
