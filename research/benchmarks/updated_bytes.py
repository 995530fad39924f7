"""Add the bytes right after the last update to records of SmolLM2 that were made without them.

    python research/benchmarks/updated_bytes.py RUN_FOLDER OUT.jsonl

A budget holds right after each update, every `interval` tokens; what came later was held until the
end of the prompt. So the tokens are those at the end without those that came later, and the bytes
are theirs: of key, value and position, of what the policy remembers of it, and of what it
holds once, the state of LESS and the moments of the queries. The queries of SnapKV are not counted:
nothing needs them before the next eviction brings its own.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from namm_mm.policies import create
from namm_mm.records import MemoryUse, Record
from namm_mm.results.cells import FULL
from namm_mm.runs import read_records
from namm_mm.runs.jsonl import record_line

HEADS, WIDTH = 90, 64
"""All kv heads of SmolLM2, and their size."""

TOKEN = 2 * 2 * WIDTH + 4
"""Bytes of a token in one head: key and value in bfloat16, and the position."""

STATE = 8 * (WIDTH + 1) * 4
"""Bytes of the state of LESS in one head."""

MOMENTS = 3 * WIDTH * (WIDTH + 1) * 4
"""Bytes of the mean and the covariance of three query heads, as they were held."""


def told(record: Record) -> Record:
    """Return the record with what its cache held right after the last update."""
    use = record.memory
    if use is None or record.policy == FULL or not use.updates or use.live_updated is not None:
        return record
    return replace(record, memory=_updated(use, record.policy, record.interval))


def _updated(use: MemoryUse, label: str, interval: int) -> MemoryUse:
    base = re.split(r"[()]", label.partition(" ")[0])
    name = base[1] if len(base) > 1 else base[0]
    then = {"state": "float32"} if name == "namm" else {}  # the only state when they were made
    remembered = create(name, **then).bytes_per_token
    later = use.seen % interval
    tokens = use.tokens_final - later
    state = STATE * label.startswith("less") + MOMENTS * (label == "expected_attention")
    live = HEADS * (tokens * (TOKEN + remembered) + state)
    return replace(
        use, seen_updated=use.seen - later, tokens_updated=tokens, live_updated=round(live)
    )


def lines(run: Path) -> Iterator[str]:
    """Yield the records of a run on text as lines of a records file."""
    records, problems = read_records(run)
    print(*problems, sep="\n")
    for record in records:
        if record.adapter == "text":
            yield record_line(told(record)) + "\n"


def main() -> None:
    """Write the records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.write_text("".join(lines(args.run)), encoding="utf-8")


if __name__ == "__main__":
    main()
