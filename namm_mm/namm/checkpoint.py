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
from namm_mm.namm import hub
from namm_mm.namm.official import read_official
from namm_mm.namm.params import LAYOUTS
from namm_mm.namm.saved import Saved
from namm_mm.registry.bundled import Bundled

BUNDLED = Bundled("NAMM", "namm_", ".safetensors", "`namm-mm list` shows what is here.")
DEFAULT = "general"
OFFICIAL_SUFFIXES = (".pt", ".pth")
FILE, CARD = "namm.safetensors", "namm.json"
"""Names of the two files in a folder of `save_pretrained`, and on the hub."""

_SETTINGS = ("scorer", "gamma", "n_fft", "hop", "interval")
_ABOUT = ("about", "made_by", "licence")


def available() -> tuple[str, ...]:
    """Names of the NAMMs that ship with the package."""
    return BUNDLED.available()


def read(
    source: str | Path = DEFAULT, *, vector: str = "mean", revision: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """Read the fields of a NAMM: see :meth:`namm_mm.namm.network.Namm.from_pretrained`.

    Returns
    -------
    tuple of Path and dict
        The file, and the fields of a :class:`~namm_mm.namm.network.Namm`, not checked yet.
    """
    path = _find(source, revision)
    if path.suffix in OFFICIAL_SUFFIXES:
        return path, read_official(path, vector=vector)
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
    return path, _fields(path, tensors, card)


def save(namm: Saved, path: str | Path) -> Path:
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


def _find(source: str | Path, revision: str | None) -> Path:
    path = Path(source).expanduser()
    named = BUNDLED.path(source)
    if len(path.parts) == 1 and not path.suffix and named.is_file():
        return named
    if path.is_dir():
        return _in_folder(path)
    if path.suffix in (".safetensors", *OFFICIAL_SUFFIXES):
        if path.is_file():
            return path
        expected = "a file that exists"
    elif hub.is_repository(str(source)):
        return _in_folder(hub.download(str(source), (FILE, CARD), revision))
    else:
        expected = "a bundled name, a folder, a .safetensors or .pt file, or OWNER/NAME on the hub"
    raise UsageError(
        message(
            "no such NAMM",
            given=str(source),
            expected=expected,
            valid=available(),
            then=BUNDLED.make,
        )
    )


def _in_folder(folder: Path) -> Path:
    """Return the NAMM of a folder: the file that `save_pretrained` writes, or the only one."""
    files = sorted(folder.glob("*.safetensors"))
    if (named := folder / FILE) in files:
        return named
    if len(files) == 1:
        return files[0]
    raise UsageError(
        message(
            f"no NAMM in the folder {folder}",
            given=[file.name for file in files],
            expected=f"{FILE}, or one file in .safetensors",
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


def _fields(path: Path, tensors: dict[str, Tensor], card: dict[str, Any]) -> dict[str, Any]:
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
        parameters = LAYOUTS[scorer].join(floats)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    statistics = {"mean": floats["mean"], "variance": floats["variance"]}
    return {"parameters": parameters, **statistics, "card": card, **settings}


def _name(path: Path) -> str:
    return path.stem.removeprefix(BUNDLED.prefix)
