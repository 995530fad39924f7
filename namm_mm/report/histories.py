"""Look into single samples: what each policy had kept after every update, by layer and head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from namm_mm.records import Record
from namm_mm.records.shape import SOUND
from namm_mm.report.samples import asked, picture, verdict
from namm_mm.results.blocks import Histories, HistoryView, PolicyHistory
from namm_mm.results.cells import Method, failed
from namm_mm.results.styles import Styles
from namm_mm.runs.history import History, of_record

ENTRIES = 16_000_000
"""Layer x head x token that a report holds; its cells share them evenly.

Samples beyond that are left out. An entry takes about a fifth of a byte, and a byte at most.
"""

_WORDS = {
    "frames": "Each frame of the video shows its patches: bright is kept, dark is forgotten.",
    "pictures": "Each picture shows its patches, and once more those of its enlarged parts: bright "
    "is kept, dark is forgotten.",
    "sound": "Each square is one second of the sound, low tones below: bright is kept, dark is "
    "forgotten.",
    "steps": "Each row is a kind of token, along the timesteps; the line is the return so far.",
    "text": "Forgotten words are grey and struck through, paler ones are kept by fewer heads, and "
    "highlighted ones by more than three quarters of them.",
}


def histories(
    methods: Mapping[Method, Sequence[Record]],
    styles: Styles,
    folders: Mapping[str, Path],
    cells: int = 1,
) -> Histories | None:
    """Return the viewer of one cell; None where no history was saved.

    `folders` maps a run to its folder, where the histories are; `cells` is how many cells the
    report has.
    """
    by_sample: dict[str, list[tuple[Method, Record, History]]] = {}
    entries = left_out = 0
    for sample, found in _watched(methods).items():
        if entries > ENTRIES / cells:
            left_out += 1
            continue
        read = [
            (method, record, of_record(record, folders[method.run])) for method, record in found
        ]
        known = [(method, record, history) for method, record, history in read if history]
        if known:
            by_sample[sample] = known
            entries += sum(history.forgotten.size for _, _, history in known)
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


def _watched(
    methods: Mapping[Method, Sequence[Record]],
) -> dict[str, list[tuple[Method, Record]]]:
    """Return the records that name a history, by sample."""
    found: dict[str, list[tuple[Method, Record]]] = {}
    for method, records in methods.items():
        for record in records:
            if record.media.history and not failed(record):
                found.setdefault(record.sample, []).append((method, record))
    return found


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
    """What the tokens are: ``frames``, ``pictures``, ``sound``, ``steps``, or ``text``."""
    if "image" in history.kinds:
        return "pictures"
    if "frame" in history.kinds:
        return "frames"
    if any(kind.startswith(SOUND) for kind in history.kinds):
        return "sound"
    return "steps" if history.rewards or not history.pieces else "text"
