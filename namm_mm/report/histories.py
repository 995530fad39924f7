"""Look into single samples: what each policy had kept after every update, by layer and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from namm_mm.records import Record
from namm_mm.report.samples import asked, picture, verdict
from namm_mm.results.blocks import Histories, HistoryView, PolicyHistory
from namm_mm.results.cells import Method, failed
from namm_mm.results.styles import Styles
from namm_mm.runs.history import History, of_record

ENTRIES = 8_000_000
"""Layer x head x token that a report holds of one cell; samples beyond that are left out."""

_WORDS = {
    "frames": "Each frame of the video shows its patches: bright is kept, dark is forgotten.",
    "steps": "Each row is a kind of token, along the timesteps; the line is the return so far.",
    "text": "Forgotten words are grey and struck through, paler ones are kept by fewer heads, and "
    "highlighted ones by more than three quarters of them.",
}


def histories(
    methods: Mapping[Method, Sequence[Record]], styles: Styles, folders: Mapping[str, Path]
) -> Histories | None:
    """Make the viewer of one cell; None where no history was saved.

    `folders` maps a run to its folder, where the histories are.
    """
    by_sample: dict[str, list[tuple[Method, Record, History]]] = {}
    entries = left_out = 0
    for method, found in methods.items():
        for record in found:
            if failed(record) or not record.media.history:
                continue
            if entries > ENTRIES and record.sample not in by_sample:
                left_out += 1
                continue
            history = of_record(record, folders[method.run])
            if history is not None:
                by_sample.setdefault(record.sample, []).append((method, record, history))
                entries += history.forgotten.size
    if not by_sample:
        return None
    views = tuple(_view(name, found, styles, folders) for name, found in by_sample.items())
    total = len({record.sample for found in methods.values() for record in found})
    shown = (
        f" {len(views)} of {total} samples were watched so closely."
        if left_out == 0
        else (f" {len(views)} samples are here; more would make this report too large.")
    )
    return Histories(
        "What was kept, update by update",
        " ".join(_WORDS[form] for form in dict.fromkeys(view.form for view in views)) + shown,
        views,
    )


def _view(
    name: str,
    found: Sequence[tuple[Method, Record, History]],
    styles: Styles,
    folders: Mapping[str, Path],
) -> HistoryView:
    first = found[0][1]
    pictures = filter(None, (picture(record, folders[method.run]) for method, record, _ in found))
    return HistoryView(
        name,
        tuple(asked(first)),
        form(found[0][2]),
        tuple(
            PolicyHistory(
                styles.label(method),
                f"{' '.join(record.answer.split())} ({verdict(record)})",
                history,
            )
            for method, record, history in found
        ),
        next(pictures, ""),
    )


def form(history: History) -> str:
    """What the tokens are: ``frames``, ``steps``, or ``text``."""
    if "frame" in history.kinds:
        return "frames"
    return "steps" if history.rewards or not history.pieces else "text"
