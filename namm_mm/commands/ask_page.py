"""What each policy kept of a question's prompt: coloured text in a terminal, or a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from namm_mm.errors import RunError
from namm_mm.experiment.asking import Asked
from namm_mm.records import Sample
from namm_mm.records.shape import IMAGE, SOUND
from namm_mm.report import html
from namm_mm.results import blocks, words
from namm_mm.runs.disk import reason, write_whole

PAGE = Path("namm-mm-ask.html")
"""Where the page goes unless --output names a file."""

LARGER = "larger than the full cache"

NAMES = {"image": "picture", "tile": "enlarged"}
"""Kinds of tokens in a terminal, where they are called otherwise."""

SHADES = ("grey35", "grey58", "white", "bold white")
"""From forgotten by nearly all heads to held by nearly all."""


def is_text(found: Sequence[Asked]) -> bool:
    """Whether a terminal can show what was kept: every token has a text of its own."""
    first = found[0]
    return bool(first.pieces) and all(one.kind == "text" for one in first.token_types)


def larger_than_full(found: Sequence[Asked]) -> list[Asked]:
    """Which answers had a cache larger than that of `full`, where that was asked too."""
    full = [one.memory.bytes_final for one in found if one.policy == "full"]
    return [one for one in found if full and one.memory.bytes_final > full[0]]


def coloured(asked: Asked) -> Text:
    """The prompt in shades: white is held by most heads, grey by few."""
    out = Text(f"\n{asked.policy} ({asked.budget}): ", style="bold")
    out.append("white is held by most heads, grey by few\n", style="")
    for piece, part in zip(asked.pieces, asked.fractions, strict=False):
        out.append(piece, style=SHADES[min(3, int(4 * part))])
    return out


def bars(asked: Asked) -> Text:
    """A line for each frame, picture, or second of a sound: the part of its tokens that is held."""
    out = Text(f"\n{asked.policy} ({asked.budget}): ", style="bold")
    groups: dict[tuple[str, int], list[float]] = {}
    for token_type, part in zip(asked.token_types, asked.fractions, strict=True):
        if token_type.kind != "text":
            groups.setdefault((token_type.kind, token_type.index), []).append(part)
    heard = any(kind.startswith(SOUND) for kind, _ in groups)
    shown = "picture" if any(kind == IMAGE for kind, _ in groups) else "frame"
    unit = "second" if heard else shown
    out.append(f"part of each {unit}'s tokens that is held, mean over heads\n", style="")
    for (kind, index), parts in sorted(groups.items()):
        mean = sum(parts) / len(parts)
        name = f"{kind}, second" if heard else NAMES.get(kind, kind)
        out.append(f"{name} {index:3} {'#' * round(40 * mean):<40} {words.percent(mean)}\n", "")
    return out


def write_page(found: Sequence[Asked], sample: Sample, file: Path) -> Path:
    """Write a page that shows answers and, update by update, what each policy kept.

    Raises
    ------
    RunError
        The file cannot be written.
    """
    about = [("question", sample.question)]
    about += [("file", file.name) for file in sample.files]
    medium = "sound" if sample.sounds else "pictures" if sample.images else "frames"
    form = "text" if is_text(found) else medium
    pictures = base64.b64encode(found[0].frames).decode("ascii")
    view = blocks.HistoryView(
        name=sample.files[0].name if sample.files else "the prompt",
        about=tuple(about),
        form=form,
        histories=tuple(
            blocks.PolicyHistory(f"{one.policy} ({one.budget})", one.text, one.history)
            for one in found
            if one.history is not None
        ),
        frames=f"data:image/jpeg;base64,{pictures}" if pictures else "",
    )
    explained = "Bright is kept, dark is forgotten; the sliders move time, layer and head."
    histories = blocks.Histories("What was kept, update by update", explained, (view,))
    page = blocks.Report(
        sample.question,
        "One question under several policies with as many tokens.",
        (
            blocks.Section("results", "Answers", (_answers(found),)),
            blocks.Section("kept", "What each policy kept", (histories,)),
        ),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, html.render(page))
    except OSError as error:
        raise RunError(
            f"the page cannot be written to {file}: {reason(error)}. Choose another file with "
            "--output FILE."
        ) from error
    return file


def _answers(found: Sequence[Asked]) -> blocks.Table:
    columns = (
        blocks.Column("policy"),
        blocks.Column("answer"),
        blocks.Column("tokens kept", numeric=True),
        blocks.Column("cache", "bytes of keys, values and what the policy remembers", numeric=True),
        blocks.Column("time", numeric=True),
    )
    rows, larger = [], larger_than_full(found)
    for asked in found:
        memory, part = asked.memory, asked.memory.kept_fraction
        kept = words.tokens(memory.tokens_final)
        rows.append(
            (
                blocks.Entry(asked.policy, asked.budget),
                blocks.Entry(asked.text or "(nothing)"),
                blocks.Entry(
                    f"{kept} of {memory.seen}",
                    "" if part is None else words.percent(part),
                    memory.tokens_final,
                ),
                blocks.Entry(
                    words.size(memory.bytes_final),
                    LARGER if asked in larger else "",
                    memory.bytes_final,
                    warning=True,
                ),
                blocks.Entry(words.duration(asked.seconds), value=asked.seconds),
            )
        )
    return blocks.Table("Side by side", columns, tuple(rows))
