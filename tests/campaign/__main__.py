"""``python -m campaign``: all trials, a table, and 1 as the exit code if anything went wrong."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import tiny_models
import torch
from transformers.utils import logging

from namm_mm.errors import NammWarning

from . import batches, faults, kills, payloads, replays, videos, wrong_inputs
from .base import Figure, Setting, Trial, measure

TRIALS = {
    "replays": Trial("evictions against a dense replay", 1000, replays.run),
    "batches": Trial("batches, row by row", 1000, batches.run),
    "kills": Trial("SIGKILLs", 50, kills.run),
    "wrong-inputs": Trial("wrong inputs", 200, wrong_inputs.run),
    "videos": Trial("video matrix", 500, videos.run),
    "faults": Trial("faults of the machine, four kinds", 2, faults.run),
    "payloads": Trial("HTML payloads", 8, payloads.run),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run what `words` choose; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m campaign", description=__doc__)
    parser.add_argument("trials", nargs="*", choices=[*TRIALS, []], help="default: all")
    parser.add_argument("--part", type=float, default=1.0, help="of the attempts; default: 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="write the table into this file, too")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.simplefilter("ignore", NammWarning)  # thresholds run at intervals that are drawn
    figures = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as place:
        tiny = Path(place) / "tiny"
        tiny_models.save_all(tiny)
        for name in given.trials or TRIALS:
            trial, folder = TRIALS[name], Path(place) / name
            folder.mkdir()
            setting = Setting(tiny, folder, max(1, round(trial.count * given.part)), given.seed)
            print(f"{name} ...", file=sys.stderr)
            figures.append(measure(trial, setting, lambda said: print(said, file=sys.stderr)))
    text = table(figures, given.seed)
    print(text)
    if given.table:
        given.table.write_text(text + "\n", encoding="utf-8")
    return int(any(figure.wrong or not figure.tried for figure in figures))


def table(figures: Sequence[Figure], seed: int) -> str:
    """Return the figures as a table in Markdown."""
    rows = [
        f"Seed {seed}, {time.strftime('%Y-%m-%d')}.\n",
        "| tried | attempts | wrong | minutes |",
        "| --- | --- | --- | --- |",
    ]
    for figure in figures:
        minutes = figure.seconds / 60
        rows.append(f"| {figure.name} | {figure.tried} | {len(figure.wrong)} | {minutes:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    raise SystemExit(main())
