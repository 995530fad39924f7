"""Read and write a NAMM: a small safetensors file with a JSON card beside it.

The safetensors file holds the named matrices of the scorer and the frozen statistics. The card
holds what makes them usable and believable: the spectrogram they were trained with, how they were
made, from what, under which licence, what they scored, and the SHA-256 of the safetensors file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor

from namm_mm.errors import RunError, UsageError, message
from namm_mm.namm.network import Namm
from namm_mm.namm.official import import_official
from namm_mm.namm.params import LAYOUTS

ASSETS = Path(__file__).parent.parent / "assets"
PREFIX = "namm_"
DEFAULT = "general"
OFFICIAL_SUFFIXES = (".pt", ".pth")

_SETTINGS = ("scorer", "gamma", "n_fft", "hop", "interval")
_ABOUT = ("about", "made_by", "licence")


def available() -> tuple[str, ...]:
    """Names of the NAMMs that ship with the package."""
    found = ASSETS.glob(f"{PREFIX}*.safetensors") if ASSETS.is_dir() else ()
    return tuple(sorted(path.stem.removeprefix(PREFIX) for path in found))


def load(source: str | Path = DEFAULT, *, vector: str = "mean") -> Namm:
    """Read a NAMM.

    Parameters
    ----------
    source
        The name of a bundled NAMM, the path of a ``.safetensors`` file with its card beside it, or
        that of a ``.pt`` file in the format of the official trainer.
    vector
        For a ``.pt`` file: ``mean`` of the search distribution (what the paper reports), or
        ``best_member``.

    Raises
    ------
    UsageError
        There is no such file or name, or the file is no NAMM: wrong size, NaN, missing parts.
    RunError
        The file is not the one that its card describes.
    """
    path = _find(source)
    if path.suffix in OFFICIAL_SUFFIXES:
        return import_official(path, vector=vector)
    content = path.read_bytes()
    card = _read_card(path, content)
    try:
        tensors = read_tensors(content)
    except SafetensorError as error:
        raise UsageError(
            message(
                f"{path} is no safetensors file ({error})", given=path.name, expected="a saved NAMM"
            )
        ) from error
    return _build(path, tensors, card)


def save(namm: Namm, path: str | Path) -> Path:
    """Write ``path`` (``.safetensors``) and the card beside it (``.json``); return the path.

    Raises
    ------
    UsageError
        The path ends otherwise, or the NAMM's card does not say about, made_by and licence.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UsageError(
            message("wrong name for a NAMM", given=path.name, expected="a name in .safetensors")
        )
    missing = [key for key in _ABOUT if not namm.card.get(key)]
    if missing:
        raise UsageError(
            message(
                "a NAMM is saved with a card that says where it comes from",
                given=dict(namm.card),
                expected=f"a card with {', '.join(_ABOUT)}; missing: {', '.join(missing)}",
            )
        )
    parts = {**namm.layout.split(namm.parameters), "mean": namm.mean, "variance": namm.variance}
    content = write_tensors(
        {name: part.detach().cpu().contiguous() for name, part in parts.items()}
    )
    settings = {name: getattr(namm, name) for name in _SETTINGS}
    if namm.relative:
        settings["relative"] = True
    digest = hashlib.sha256(content).hexdigest()
    card = {"name": _name(path), **namm.card, **settings, "sha256": digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    path.with_suffix(".json").write_text(text, encoding="utf-8")
    return path


def _find(source: str | Path) -> Path:
    path = Path(source).expanduser()
    named = ASSETS / f"{PREFIX}{source}.safetensors"
    if len(path.parts) == 1 and not path.suffix and named.is_file():
        return named
    if path.suffix not in (".safetensors", *OFFICIAL_SUFFIXES) or path.is_dir():
        expected = "the name of a bundled NAMM, or a .safetensors or .pt file"
    elif path.is_file():
        return path
    else:
        expected = "a file that exists"
    raise UsageError(
        message(
            "no such NAMM",
            given=str(source),
            expected=expected,
            valid=available(),
            then="`namm-mm list` shows what is here.",
        )
    )


def _read_card(path: Path, content: bytes) -> dict[str, Any]:
    place = path.with_suffix(".json")
    try:
        card = json.loads(place.read_text(encoding="utf-8"))
        missing = [key for key in (*_SETTINGS, *_ABOUT, "sha256") if key not in card]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            message(
                f"{path.name} has no readable card ({type(error).__name__}: {error})",
                given=str(place),
                expected="the JSON file that was written beside it",
                then="Copy both files together.",
            )
        ) from error
    if missing:
        raise UsageError(
            message(
                f"the card {place} is incomplete", given=sorted(card), expected=", ".join(missing)
            )
        )
    found = hashlib.sha256(content).hexdigest()
    if found != card["sha256"]:
        again = f"Make it again (`{card['made_by']}`) or fetch both files anew."
        raise RunError(
            message(
                f"{path} is damaged, or its card belongs to another file",
                given=f"SHA-256 {found}",
                expected=card["sha256"],
                then=again,
            )
        )
    return dict(card)


def _build(path: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> Namm:
    settings = {name: card.pop(name) for name in _SETTINGS}
    settings["relative"] = bool(card.pop("relative", False))
    scorer = settings["scorer"]
    if scorer not in LAYOUTS:
        raise UsageError(
            message(f"{path}: unknown scorer", given=scorer, expected="a scorer", valid=LAYOUTS)
        )
    names = (*LAYOUTS[scorer].shapes, "mean", "variance")
    missing = [name for name in names if name not in tensors]
    if missing:
        raise UsageError(
            message(
                f"{path} is no NAMM with scorer {scorer!r}",
                given=sorted(tensors),
                expected=f"tensors with {', '.join(missing)}",
            )
        )
    floats = {name: tensors[name].to(torch.float32) for name in names}
    try:
        return Namm(
            parameters=LAYOUTS[scorer].join(floats),
            mean=floats["mean"],
            variance=floats["variance"],
            card=card,
            **settings,
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _name(path: Path) -> str:
    return path.stem.removeprefix(PREFIX)
