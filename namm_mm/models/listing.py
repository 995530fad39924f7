"""Which models are here, which can be got, and how: for ``namm-mm list`` and ``namm-mm doctor``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError
from namm_mm.models import cards, composed, fetched, hub, packaged


@dataclass(frozen=True)
class AssetStatus:
    """One line of ``namm-mm list`` and ``namm-mm doctor``.

    Attributes
    ----------
    name
        What to write in a configuration.
    status
        ``bundled``, ``cached``, ``can be installed``, ``absent`` or ``damaged``.
    about
        What it is, in a few words.
    then
        The command that makes or gets it; empty if it is there.
    """

    name: str
    status: str
    about: str
    then: str = ""


def list_models(*, verify: bool = False) -> tuple[AssetStatus, ...]:
    """Return every model that has a name of ours or of the configurations, and whether it is here.

    Parameters
    ----------
    verify
        Compare every file of a bundled model with the SHA-256 on its card; otherwise only look
        whether the files are there.
    """
    found = [_bundled_status(cards.BUNDLED / name, verify=verify) for name in cards.bundled()]
    for model in packaged.MODELS.values():
        about = f"{model.about}, from {model.package}"
        if packaged.cached(model):
            found.append(AssetStatus(model.name, "cached", about))
        elif packaged.source(model):
            found.append(AssetStatus(model.name, "cached", f"{about}, converted at first use"))
        else:
            found.append(AssetStatus(model.name, "can be installed", about, model.install))
    for other in fetched.MODELS.values():
        about = f"{other.about}; licence: {other.licence}"
        if fetched.cached(other):
            found.append(AssetStatus(other.name, "cached", about))
        else:
            found.append(AssetStatus(other.name, "absent", about, other.command))
    for name, about in hub.MODELS.items():
        if hub.seems_cached(name):
            found.append(AssetStatus(name, "cached", f"hub, {about}"))
        else:
            found.append(AssetStatus(name, "absent", f"hub, {about}", f"hf download {name}"))
    return tuple(found)


def _bundled_status(folder: Path, *, verify: bool) -> AssetStatus:
    card: dict[str, Any] = {}
    try:
        card = cards.read_card(folder)
        (cards.verify if verify else cards.look)(folder)
    except RunError as error:
        return AssetStatus(
            folder.name, "damaged", str(error).split(":")[0], cards.remake(folder, card)
        )
    about = str(card.get("about", ""))
    if (folder / composed.TRAINED).is_file() and (then := composed.missing(card)):
        return AssetStatus(folder.name, "can be installed", about, then)
    return AssetStatus(folder.name, "bundled", about)


def namm_cards() -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """Yield name and card of each bundled NAMM; None for a card that cannot be read.

    Only the JSON file is read. Whether the parameters are those of the card is seen on loading.
    """
    for file in sorted(cards.BUNDLED.glob("namm_*.safetensors")):
        try:
            card = dict(json.loads(file.with_suffix(".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            card = None
        yield file.stem.removeprefix("namm_"), card
