"""Keep the records of `experiment=control_heads` and `experiment=films`, and write their pages.

    python research/benchmarks/paired_results.py RUN_FOLDER ...
    python research/benchmarks/paired_results.py

The first keeps the records of runs as research/results/NAME.jsonl.gz, where NAME is that of the
experiment; what several runs have counts once, from the first. Both write research/results/NAME.md:
for each group of cells the scores of every policy at every budget, and the paired differences of
the NAMM whose heads share the budget to all others. Pairs are those of model and sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.cells import FULL, NAMM, failed
from namm_mm.results.significance import LEVEL, holm
from namm_mm.results.slim import read_slim, write_slim
from namm_mm.results.statistics import Difference, Interval, mean_interval, paired_difference
from research.benchmarks.common import markdown
from research.benchmarks.results_media import first_records
from research.benchmarks.results_page import KEPT

SHARED = f"{NAMM}, shared"
"""The NAMM whose heads share the budget of a layer."""

Scores = dict[tuple[str, float], dict[str, float]]
"""For each policy and part of the bytes (1 for the full cache) the value of each pair."""


@dataclass(frozen=True)
class Page:
    """What is written of an experiment.

    Attributes
    ----------
    title, command
        The first line, and the command that makes the records again.
    group
        Returns the table that a record is in.
    digits
        Of a score.
    """

    title: str
    command: str
    group: Callable[[Record], str]
    digits: int


def _heads(record: Record) -> str:
    heads = record.model.partition("_orders_")[2][0]
    return f"{record.family}, {heads} heads"


PAGES: Mapping[str, Page] = {
    "control_heads": Page(
        "Decision Transformers with several heads (protocol.md, F)",
        "namm-mm transfer --configs research/configs experiment=control_heads "
        "'cells=[hopper_4,halfcheetah_4,walker2d_4]'",
        _heads,
        1,
    ),
    "films": Page(
        "Long videos and films (protocol.md, H)",
        "namm-mm transfer experiment=films 'cells=[film]' limit=4",
        lambda record: {"video_qa": "videos of 64 frames", "film_qa": "films"}[record.task],
        2,
    ),
}


def kept_file(name: str) -> Path:
    """Return the file of the kept records of an experiment."""
    return KEPT / f"{name}.jsonl.gz"


def scores(records: Iterable[Record]) -> Scores:
    """Return the scores of one group; failed samples have none."""
    found: Scores = {}
    for record in records:
        if failed(record):
            continue
        kind, _, part = record.budget.partition(":")
        full = record.policy == FULL
        name = SHARED if kind.startswith("pool") else record.policy
        own = found.setdefault((name, 1.0 if full else float(part)), {})
        own[f"{record.model.rpartition('/')[2]} {record.sample}"] = float(record.value or 0)
    return found


def page_of(name: str, records: Sequence[Record]) -> str:
    """Return the page of an experiment."""
    page = PAGES[name]
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(page.group(record), []).append(record)
    parts = [
        f"# {page.title}",
        f"`{page.command}`, kept by `research/benchmarks/paired_results.py`. Brackets are 95 % "
        "intervals. Differences are those of the NAMM whose heads share the budget; **bold** "
        "where they hold at 5 % after Holm's correction over the table.",
    ]
    for title, own in groups.items():
        models = sorted({record.model.rpartition("/")[2] for record in own})
        found = scores(own)
        parts += [f"## {title}", f"Models: {', '.join(f'`{one}`' for one in models)}."]
        parts += [table(found, page.digits), differences(found, page.digits)]
    return "\n\n".join(parts) + "\n"


def table(found: Scores, digits: int) -> str:
    """Return the scores of each policy at each part of the bytes."""
    parts = _parts(found)
    full = found[FULL, 1.0]
    rows = [
        [
            f"full cache, n = {len(full)}",
            *[_ends(mean_interval(_values(full)), digits)] * len(parts),
        ]
    ]
    for name in _names(found):
        own = [mean_interval(_values(found.get((name, part), {}))) for part in parts]
        rows.append([f"`{name}`", *(_ends(one, digits) for one in own)])
    return markdown(["policy", *(f"{part:.0%}" for part in parts)], rows)


def differences(found: Scores, digits: int) -> str:
    """Return the differences of the shared NAMM to each other policy, and to the full cache."""
    parts = _parts(found)
    names = [name for name in _names(found) if name != SHARED]
    pairs = {(name, part): _pair(found, name, part) for name in (*names, FULL) for part in parts}
    held = iter(holm([pair.p_value for pair in pairs.values() if pair]))
    cells = {
        at: words.MISSING if pair is None else _bold(pair, next(held), digits)
        for at, pair in pairs.items()
    }
    rows = [
        [f"`{SHARED}` - " + ("full cache" if name == FULL else f"`{name}`")]
        + [cells[name, part] for part in parts]
        for name in (*names, FULL)
    ]
    return markdown(["difference", *(f"{part:.0%}" for part in parts)], rows)


def _pair(found: Scores, name: str, part: float) -> Difference | None:
    other = found.get((name, 1.0 if name == FULL else part), {})
    return paired_difference(found.get((SHARED, part), {}), other)


def _bold(pair: Difference, adjusted: float, digits: int) -> str:
    text = f"{pair.mean:+.{digits}f} [{pair.low:+.{digits}f}, {pair.high:+.{digits}f}]"
    return f"**{text}**" if adjusted < LEVEL else text


def _parts(found: Scores) -> list[float]:
    return sorted({part for _, part in found} - {1.0})


def _names(found: Scores) -> list[str]:
    return list(dict.fromkeys(name for name, _ in found if name != FULL))


def _values(own: Mapping[str, float]) -> list[float]:
    return list(own.values())


def _ends(found: Interval | None, digits: int) -> str:
    if found is None:
        return words.MISSING
    return f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def main() -> None:
    """Keep the records of runs, and write the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="run folders")
    for name, own in first_records(parser.parse_args().runs).items():
        print(f"{write_slim(kept_file(name), own) / 1024:.0f} KiB in {kept_file(name)}")
    for name in PAGES:
        if kept_file(name).is_file():
            output = KEPT / f"{name}.md"
            output.write_text(page_of(name, read_slim(kept_file(name))), encoding="utf-8")
            print(output)


if __name__ == "__main__":
    main()
