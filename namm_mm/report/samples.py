"""Look at single samples: what was asked, what each policy answered, and what it had kept."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from namm_mm.records import Record
from namm_mm.results import words
from namm_mm.results.blocks import Samples, SampleView
from namm_mm.results.cells import Method, failed
from namm_mm.results.kept_figures import INDEXES, binned
from namm_mm.results.styles import Styles
from namm_mm.runs.pictures import FOLDER

SAMPLES = 24
"""Samples of one cell that can be looked at; of more, every so many-th."""

PICTURES = 4_000_000
"""Bytes that the pictures of frames take in a report; its cells share them evenly."""


def samples(
    methods: Mapping[Method, Sequence[Record]],
    styles: Styles,
    folders: Mapping[str, Path],
    cells: int = 1,
) -> Samples | None:
    """Return the viewer of one cell; None where records do not tell frames or timesteps apart.

    `folders` maps a run to its folder, where the pictures of frames are; `cells` is how many cells
    the report has.
    """
    by_sample: dict[str, list[tuple[Method, Record]]] = {}
    for method, found in methods.items():
        for record in found:
            if record.kept_by_index:
                by_sample.setdefault(record.sample, []).append((method, record))
    if not by_sample:
        return None
    pictured = [n for n, found in by_sample.items() if found[0][1].media.frames]
    candidates = pictured or list(by_sample)
    names = candidates[:: math.ceil(len(candidates) / SAMPLES)]
    views: list[SampleView] = []
    taken = 0
    for name in names:
        view = _view(name, by_sample[name], styles, folders)
        taken += len(view.frames)
        if views and taken > PICTURES / cells:
            break
        views.append(view)
    shown = f" {len(views)} of {len(by_sample)} samples are here."
    shown = shown if len(views) < len(by_sample) else ""
    kinds = dict.fromkeys(
        kind for found in by_sample.values() for _, r in found for kind in r.kept_by_index
    )
    return Samples(
        "One sample at a time",
        f"What each policy still held of each {' and '.join(kinds)} at the end of one sample, mean "
        f"over layers and heads: bright is kept, dark is forgotten.{shown}",
        tuple(views),
    )


def _view(
    name: str, found: Sequence[tuple[Method, Record]], styles: Styles, folders: Mapping[str, Path]
) -> SampleView:
    first = found[0][1]
    about = asked(first)
    answers = [
        (styles.label(method), f"{' '.join(record.answer.split())} ({verdict(record)})")
        for method, record in found
    ]
    several = len(first.kept_by_index) > 1
    rows = []
    values = []
    for kind in first.kept_by_index:
        for method, record in found:
            line = np.asarray(record.kept_by_index.get(kind, ()), dtype=np.float64)
            if line.size:
                width = math.ceil(line.size / INDEXES)
                label = styles.label(method)
                rows.append(f"{kind}: {label}" if several else label)
                values.append(tuple(round(float(v), 4) for v in binned(line, width)))
    pictures = filter(None, (picture(record, folders[method.run]) for method, record in found))
    return SampleView(name, (*about, *answers), tuple(rows), tuple(values), next(pictures, ""))


def asked(record: Record) -> list[tuple[str, str]]:
    """Names and values: family, question, options and the right answer."""
    about = [("family", record.family)]
    for name, text in (
        ("question", record.asked.question),
        ("options", " / ".join(record.asked.options)),
        ("right answer", record.asked.right_answer),
    ):
        if text:
            about.append((name, " ".join(text.split())))
    return about


def verdict(record: Record) -> str:
    """The metric and the score; why there is none where the sample failed."""
    if failed(record):
        return record.error
    places = 1 if abs(record.value or 0.0) >= 10 else 3
    return f"{record.metric.replace('_', ' ')} {words.number(record.value, places)}"


def picture(record: Record, folder: Path) -> str:
    """Return the frames of a record as a data address; empty where their file is not there."""
    name = Path(record.media.frames).name
    file = folder / FOLDER / name
    if not name or not file.is_file():
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode("ascii")
