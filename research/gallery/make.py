"""Make the pictures of the README from the records in this folder; from a new run with its folder.

    python research/gallery/make.py         draw research/gallery/*.png again
    python research/gallery/make.py RUN     first take the records of RUN, slimmed to below 1 MB

Of RUN stay: every record without what no picture shows, and the histories of one video, and one
episode. Needs matplotlib: `pip install 'namm-mm[report]'`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from namm_mm.records import Media, Record
from namm_mm.report import pictures
from namm_mm.results import words
from namm_mm.results.blocks import Figure
from namm_mm.results.cells import NAMM, group
from namm_mm.results.drawing import sheet
from namm_mm.results.episode_figure import episode_figure
from namm_mm.results.figures import figures
from namm_mm.runs import read_records, read_state
from namm_mm.runs.history import of_record
from namm_mm.runs.jsonl import RECORDS, write_records

HERE = Path(__file__).parent
RUN = HERE / "run"
LARGEST = 900_000
"""Bytes of the committed records; of more, every so many-th sample stays."""


def main(arguments: Sequence[str]) -> int:
    """Take the records of a run, if one is given, and draw."""
    if arguments:
        take(Path(arguments[0]))
    records, _ = read_records(RUN)
    for file in (scores(records), video(records), episode(records)):
        if file is not None:
            sys.stdout.write(f"{file.name}: {file.stat().st_size / 1000:.0f} kB\n")
    return 0


def take(run: Path) -> None:
    """Copy what the pictures need of `run`."""
    records, _ = read_records(run)
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(parents=True)
    tasks = {record.task for record in records}
    closely = {(task, chosen(records, task)) for task in tasks}
    slim = [slimmed(record, (record.task, record.sample) in closely) for record in records]
    step = 1
    while True:
        order = {name: n for n, name in enumerate(dict.fromkeys(r.sample for r in slim))}
        kept = [r for r in slim if order[r.sample] % step == 0 or (r.task, r.sample) in closely]
        write_records(RUN, kept)
        if (RUN / RECORDS).stat().st_size <= LARGEST:
            break
        step += 1
    for record in kept:
        for name in (record.media.history, record.media.frames):
            if name and (run / name).is_file():
                (RUN / name).parent.mkdir(exist_ok=True)
                shutil.copy2(run / name, RUN / name)
    state = read_state(run)
    about = {"status": state.status, "experiment": state.experiment, "notes": state.notes}
    (RUN / "run.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def chosen(records: Sequence[Record], task: str) -> str:
    """The sample of a task that is shown: one that was watched, and answered well under NAMM."""
    watched = [
        record
        for record in records
        if record.task == task and record.policy == NAMM and record.media.history
    ]
    best = max(watched, key=lambda record: record.value or 0.0, default=None)
    return "" if best is None else best.sample


def slimmed(record: Record, closely: bool) -> Record:
    """The record without what no picture shows."""
    drawn = closely and bool(record.kept_by_index)  # of a text, the pictures show scores alone
    media = record.media if drawn else Media()
    return dataclasses.replace(record, kept_by_index={}, media=media, details={})


def scores(records: Sequence[Record]) -> Path:
    """Quality against bytes, every modality side by side."""
    panels = []
    for cell, found in figures(records):
        first: Figure = found[0]
        file = HERE / "panel.png"
        pictures.plot(first.plot, file, width=5.2, height=4.2)
        with Image.open(file) as panel:
            page = Image.new("RGB", (panel.width, panel.height + 30), "white")
            page.paste(panel.convert("RGB"), (0, 30))
        text = f"{cell.task}: {cell.model}"
        ImageDraw.Draw(page).text((70, 8), text, fill="black", font=ImageFont.load_default(15))
        panels.append(page)
        file.unlink()
    row = Image.new("RGB", (sum(p.width for p in panels), panels[0].height), "white")
    at = 0
    for drawn in panels:
        row.paste(drawn, (at, 0))
        at += drawn.width
    return save(row, "scores.png")


def video(records: Sequence[Record]) -> Path | None:
    """The frames of one video, a row for each policy: bright is kept, dark is forgotten."""
    for cell, methods in group(records).items():
        name = chosen(records, cell.task)
        found = [
            (method, record, of_record(record, RUN))
            for method, rows in methods.items()
            for record in rows
            if record.sample == name and record.media.frames
        ]
        rows = [(method.label, history) for method, _, history in found if history is not None]
        if rows:
            first = found[0][1]
            title = f"{first.asked.question} (right: {first.asked.right_answer})"
            answers = ", ".join(f"{method.policy}: {r.answer}" for method, r, _ in found)
            with Image.open(RUN / first.media.frames) as frames:
                return save(sheet(frames, rows, f"{title}   {answers}"), "video.png")
    return None


def episode(records: Sequence[Record]) -> Path | None:
    """One episode under NAMM: its return, and what it remembers of it at the end."""
    for record in records:
        history = of_record(record, RUN) if record.policy == NAMM else None
        if history is not None and history.rewards:
            file = HERE / "episode.png"
            pictures.plot(episode_figure(history), file, height=3.6)
            kept = words.percent(float(history.kept().mean()))
            with Image.open(file) as drawn:
                page = Image.new("RGB", (drawn.width, drawn.height + 28), "white")
                page.paste(drawn.convert("RGB"), (0, 28))
            text = f"{record.family} under {record.policy}: {record.answer}, {kept} kept at the end"
            ImageDraw.Draw(page).text((70, 8), text, fill="black", font=ImageFont.load_default(15))
            return save(page, file.name)
    return None


def save(page: Image.Image, name: str) -> Path:
    """Write a picture with as many colours as a small file holds."""
    page.quantize(256, dither=Image.Dither.NONE).save(HERE / name, optimize=True)
    return HERE / name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
