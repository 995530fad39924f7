"""The card of an asset: what it is, what made it, and the SHA-256 of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, message
from namm_mm.registry.bundled import ASSETS

BUNDLED = ASSETS


CARD = "card.json"


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_card(folder: Path, *, made_by: str, about: str, **facts: Any) -> Path:
    """Write the card of an asset folder, with the SHA-256 of every file now in it.

    Parameters
    ----------
    folder
        The asset, complete but for its card.
    made_by
        The command that makes it again: ``namm-mm build pocket-video``.
    about
        What it is, in one line.
    facts
        Anything else worth knowing (JSON values): data, licence, scores, seeds.
    """
    files = {p.relative_to(folder).as_posix(): sha256(p) for p in _files(folder)}
    card = {"name": folder.name, "about": about, "made_by": made_by, **facts, "files": files}
    path = folder / CARD
    path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of an asset folder; raise `RunError` if it is missing or unreadable."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if not isinstance(card["files"], dict) or not card["files"]:
            raise ValueError("`files` is empty")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            message(
                f"asset {folder.name!r} has no readable {CARD}",
                given=f"{type(error).__name__}: {error}",
                expected=f"a JSON object with `made_by` and `files` (name to SHA-256) in {folder}",
                then=f"Run `{remake(folder, {})}` and try again.",
            )
        ) from error
    return dict(card)


def verify(folder: Path) -> dict[str, Any]:
    """Compare every file of an asset with its card and return the card.

    Raises
    ------
    RunError
        A file is missing or changed; the message names it and the command that remakes the asset.
    """
    card = read_card(folder)
    for name, expected in card["files"].items():
        path = folder / name
        found = sha256(path) if path.is_file() else "no file"
        if found != expected:
            raise RunError(
                message(
                    f"asset {folder.name!r} is damaged: {path}",
                    given=found,
                    expected=f"SHA-256 {expected}",
                    then=f"Run `{remake(folder, card)}` and try again.",
                )
            )
    return card


def look(folder: Path) -> dict[str, Any]:
    """Return the card of an asset whose files are all there; raise `RunError` for another one.

    What is in the files is not compared: :func:`verify` does that.
    """
    card = read_card(folder)
    for name in card["files"]:
        if not (folder / name).is_file():
            return verify(folder)  # which says what is missing and how to get it
    return card


def bundled() -> Iterator[str]:
    """Yield the names of the models that ship with the package."""
    if BUNDLED.is_dir():
        yield from sorted(p.name for p in BUNDLED.iterdir() if (p / CARD).is_file())


def remake(folder: Path, card: Mapping[str, Any]) -> str:
    """Command that makes a damaged asset again."""
    if not folder.is_relative_to(BUNDLED):
        return f"rm -r {folder}"  # a converted model: the next use converts it again
    return str(card.get("made_by") or "namm-mm build")  # which lists what can be made


def _files(folder: Path) -> list[Path]:
    return sorted(
        Path(root) / name for root, _, names in os.walk(folder) for name in names if name != CARD
    )
