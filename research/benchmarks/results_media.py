"""Keep the records of `experiment=images` and `experiment=speech`, and fill their tables.

    python research/benchmarks/results_media.py RUN_FOLDER ...
    python research/benchmarks/results_media.py

The first keeps the records of runs as research/results/NAME_transfer.jsonl.gz, where NAME is that
of the experiment; both write docs/speech-and-images.md. What several runs of an experiment have
counts once, from the first. In the page a line
``<!-- scores: NAME FAMILIES -->`` stands before a table of scores at each budget, and
``<!-- differences: 0.4 -->`` before one of differences between two policies on the same samples.
FAMILIES are joined by commas. ``<!-- blank: NAME -->`` stands before the scores of each family with
the full cache, and with blank media (research/results/blank_NAME.json).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.cells import FULL, failed
from namm_mm.results.significance import LEVEL, holm
from namm_mm.results.slim import read_slim, write_slim
from namm_mm.results.statistics import Interval, mean_interval, paired_difference
from namm_mm.runs import read_records
from research.benchmarks.common import markdown
from research.benchmarks.results_page import KEPT, ROOT

PAGE = ROOT / "docs" / "speech-and-images.md"
NAMES = ("images", "speech")
MARK = re.compile(r"(<!-- (scores|differences|blank): (\S+)(?: (\S+))? -->\n)\n*(?:\|.*\n)*\n*")
GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "pictures": ("images", ()),
    "speech, `word`": ("speech", ("word",)),
    "speech, `needle`": ("speech", ("needle",)),
}
"""Columns of the table of differences: the experiment, and its families; none are all."""

PROBED = "probed(namm)"
PAIRS = (
    ("namm", "random"),
    ("namm", "recency"),
    (PROBED, "random"),
    (PROBED, "recency"),
    (PROBED, "h2o"),
    (PROBED, "attention_max"),
    (PROBED, "keydiff"),
    (PROBED, "namm"),
    (PROBED, "probed(random)"),
    (PROBED, "probed(h2o)"),
    (PROBED, FULL),
)
"""Which policies the protocol compares (research/protocol.md, E)."""


@dataclass(frozen=True, order=True)
class Method:
    """A policy, and the part of the bytes that it may hold; 1 for the full cache."""

    policy: str
    part: float


Scores = dict[Method, dict[str, float]]
"""Score of each sample under each method."""


def kept_file(name: str) -> Path:
    """Return the file of the kept records of an experiment."""
    return KEPT / f"{name}_transfer.jsonl.gz"


def kept_records() -> dict[str, list[Record]]:
    """Return the kept records of the experiments that have some."""
    return {name: read_slim(kept_file(name)) for name in NAMES if kept_file(name).is_file()}


def scores(records: Iterable[Record], families: Sequence[str] = ()) -> Scores:
    """Return the scores of `families`, of all if none are named; failed samples have none."""
    found: Scores = {}
    for record in records:
        if failed(record) or (families and record.family not in families):
            continue
        part = 1.0 if record.policy == FULL else float(record.budget.partition(":")[2])
        found.setdefault(Method(record.policy, part), {})[record.sample] = float(record.value or 0)
    return found


def filled(page: str, records: Mapping[str, Sequence[Record]]) -> str:
    """Return the text of the page with every table made anew."""

    def made(found: re.Match[str]) -> str:
        head, kind, first, second = found.groups()
        if kind == "differences":
            return f"{head}\n{differences(records, float(first))}\n\n"
        if kind == "blank":
            return f"{head}\n{beside_blank(records[first], first)}\n\n"
        families = tuple(second.split(",")) if second else ()
        return f"{head}\n{table(scores(records[first], families))}\n\n"

    return MARK.sub(made, page)


def table(found: Scores) -> str:
    """Return the scores of each policy at each budget, with 95 % intervals."""
    parts = sorted({method.part for method in found} - {1.0})
    full = found[Method(FULL, 1.0)]
    rows = [[f"full cache, {len(full)} samples", *[_score(full)] * len(parts)]]
    for name in dict.fromkeys(method.policy for method in found if method.policy != FULL):
        own = [found.get(Method(name, part), {}) for part in parts]
        rows.append([f"`{name}`", *map(_score, own)])
    return markdown(["policy", *(f"{part:.0%} of the bytes" for part in parts)], rows)


def beside_blank(records: Iterable[Record], name: str) -> str:
    """Return the scores of each family with the full cache, and with blank media."""
    full = [record for record in records if record.policy == FULL]
    blank = json.loads((KEPT / f"blank_{name}.json").read_text(encoding="utf-8"))["accuracy"]
    rows = []
    for family in dict.fromkeys(record.family for record in full):
        own = scores(full, (family,))[Method(FULL, 1.0)]
        other = Interval(**blank[family]) if family in blank else None
        rows.append([f"`{family}`", str(len(own)), _score(own), _ends(other)])
    every = scores(full)[Method(FULL, 1.0)]
    rows.append(["all", str(len(every)), _score(every), _ends(Interval(**blank["all"]))])
    return markdown(["family", "n", "full cache", f"blank, {blank['all']['n']} samples"], rows)


def differences(records: Mapping[str, Sequence[Record]], part: float) -> str:
    """Return the paired differences of :data:`PAIRS`; bold where they hold after Holm's correction.

    The correction is over each column.
    """
    columns = []
    groups = {title: group for title, group in GROUPS.items() if group[0] in records}
    for name, families in groups.values():
        found = scores(records[name], families)
        pairs = [
            paired_difference(found.get(_at(a, part), {}), found.get(_at(b, part), {}))
            for a, b in PAIRS
        ]
        held = iter(holm([pair.p_value for pair in pairs if pair]))
        cells = []
        for pair in pairs:
            if pair is None:
                cells.append(words.MISSING)
                continue
            text = f"{pair.mean:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}]"
            cells.append(f"**{text}**" if next(held) < LEVEL else text)
        columns.append(cells)
    titles = [f"`{a}` - " + ("full cache" if b == FULL else f"`{b}`") for a, b in PAIRS]
    rows = [[title, *cells] for title, *cells in zip(titles, *columns, strict=True)]
    return markdown([f"at {part:.0%} of the bytes", *groups], rows)


def _at(policy: str, part: float) -> Method:
    return Method(policy, 1.0 if policy == FULL else part)


def _score(own: Mapping[str, float]) -> str:
    return _ends(mean_interval(list(own.values())))


def _ends(found: Interval | None) -> str:
    if found is None:
        return words.MISSING
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def first_records(runs: Iterable[Path]) -> dict[str, list[Record]]:
    """Return the records of runs by experiment; what several runs have is that of the first."""
    found: dict[str, dict[tuple[str, ...], Record]] = {}
    for run in runs:
        records, problems = read_records(run)
        print(*problems, sep="\n")
        for record in records:
            key = record.model, record.policy, record.budget, record.sample
            found.setdefault(record.experiment, {}).setdefault(key, record)
    return {name: list(own.values()) for name, own in found.items()}


def main() -> None:
    """Keep the records of runs, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    for name, own in first_records(parser.parse_args().runs).items():
        size = write_slim(kept_file(name), own)
        print(f"{size / 1024:.0f} KiB of {len(own)} records in {kept_file(name)}")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, kept_records()), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
