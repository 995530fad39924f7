"""Files beside the weights of a checkpoint, and one clear error for each failure to load."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from namm_mm.errors import RunError, UsageError, message
from namm_mm.models.cards import CARD, read_card

Loaded = TypeVar("Loaded")


def read_json(source: Path | str, file: str, name: str) -> dict[str, Any]:
    """Return one of a checkpoint's JSON files; an empty mapping where it has none of this name."""
    from transformers.utils.hub import cached_file

    found = cached_file(
        source,
        file,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return {}
    try:
        return dict(json.loads(Path(found).read_text(encoding="utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise RunError(
            message(
                f"{file} of {name!r} is not valid JSON ({error})",
                given=str(found),
                expected="a JSON object",
            )
        ) from error


def taught(source: Path | str) -> str:
    """Return how the model's card says that it answers; only our own models have a card."""
    folder = Path(source)
    card = read_card(folder) if (folder / CARD).is_file() else {}
    return str(card.get("answer_by", "options"))


def guarded(
    load: Callable[[], Loaded], what: str, name: str, kinds: Iterable[str], media: str
) -> Loaded:
    """Return what `load` returns; turn its exceptions into clear errors.

    Parameters
    ----------
    what
        What is done, in words: ``load the weights``.
    name
        Of the model.
    kinds
        The model types that are served.
    media
        What the model reads beside text, in words.

    Raises
    ------
    UsageError
        The model is of a type that transformers does not know.
    RunError
        Files are missing or damaged.
    """
    try:
        return load()
    except (UsageError, RunError):
        raise
    except Exception as error:  # safetensors, huggingface_hub and torch each have their own
        first = (str(error).strip().splitlines() or [""])[0]
        if "model type" in first:
            raise UsageError(
                message(
                    f"cannot {what} of {name!r} ({first})",
                    given=name,
                    expected=f"{media} model of transformers, of a known class",
                    valid=kinds,
                )
            ) from error
        raise RunError(
            message(
                f"cannot {what} of {name!r} ({type(error).__name__}: {first})",
                given=name,
                expected="a complete model in hub layout",
                then="`namm-mm list` shows what is here and how to get the rest.",
            )
        ) from error
