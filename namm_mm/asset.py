"""Find a model by name: a local folder, a bundled asset, a packaged model, or a hub id.

:func:`resolve` is the one way from a name in a configuration to files on disk. It looks, in this
order, at

1. a **local folder** (anything holding a ``config.json`` or ``card.json``, in hub layout);
2. a **bundled** asset, a folder of ``namm_mm/assets`` with a card that carries the SHA-256 of every
   file: a damaged one is refused, with the command that makes it again; where it holds only the
   trained part of a model, the rest is taken from packages (:mod:`namm_mm.composed_model`);
3. a **packaged** model, whose weights come inside a Python package: converted once and cached;
4. a **hub id** ``owner/name``, from the local hub cache or, when online, the hub.

A name stands for one set of weights: ``smollm2-135m-instruct`` is always the packaged, quantised
SmolLM2 and never silently the hub's original, whose numbers differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm import composed_model, packaged_model
from namm_mm.errors import RunError, UsageError, message

BUNDLED = Path(__file__).parent / "assets"
CARD = "card.json"

HUB_MODELS: Mapping[str, str] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": "text",
    "meta-llama/Meta-Llama-3-8B": "text; the model of the NAMM paper, gated",
    "llava-hf/LLaVA-NeXT-Video-7B-hf": "video",
    "edbeeching/decision-transformer-gym-hopper-medium": "control",
}
"""Published models that the configurations name; any other hub id works too."""


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
                then=f"Run `{_remake(folder, {})}` and try again.",
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
                    then=f"Run `{_remake(folder, card)}` and try again.",
                )
            )
    return card


def resolve(name: str) -> Path | str:
    """Find the files behind the name of a model.

    Parameters
    ----------
    name
        A local folder, a bundled asset, a packaged model, or a hub id.

    Returns
    -------
    Path or str
        A folder in hub layout, or a hub id: either goes to ``from_pretrained``.

    Raises
    ------
    UsageError
        Nothing has this name; the message holds the nearest one.
    RunError
        The name is known, but files are missing or damaged; the message holds the exact command.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file() or (folder / CARD).is_file():
        return _whole(folder)
    if (BUNDLED / name / CARD).is_file() and "/" not in name:
        verify(BUNDLED / name)
        return _whole(BUNDLED / name)
    if name in packaged_model.MODELS:
        return _verified(packaged_model.convert(packaged_model.MODELS[name]))
    if _is_hub_id(name) and not folder.exists():
        return _hub(name)
    if folder.is_dir():
        expected = "a folder in hub layout, with a config.json"
    else:
        expected = "a local folder, a hub id `owner/name`, or the name of an asset"
    raise UsageError(
        message(
            "no such model",
            given=name,
            expected=expected,
            valid=[*packaged_model.MODELS, *bundled(), *HUB_MODELS],
            then="`namm-mm list` shows what is here.",
        )
    )


def bundled() -> Iterator[str]:
    """Names of the assets that ship with the package."""
    if BUNDLED.is_dir():
        yield from sorted(p.name for p in BUNDLED.iterdir() if (p / CARD).is_file())


def list_assets() -> tuple[AssetStatus, ...]:
    """Say what is here, what can be installed, and how."""
    found = [_bundled_status(BUNDLED / name) for name in bundled()]
    for model in packaged_model.MODELS.values():
        about = f"{model.about}, from {model.package}"
        if packaged_model.cached(model):
            found.append(AssetStatus(model.name, "cached", about))
        elif packaged_model.source(model):
            found.append(AssetStatus(model.name, "cached", f"{about}, converted at first use"))
        else:
            found.append(AssetStatus(model.name, "can be installed", about, model.install))
    for name, about in HUB_MODELS.items():
        if _in_hub_cache(name):
            found.append(AssetStatus(name, "cached", f"hub, {about}"))
        else:
            found.append(AssetStatus(name, "absent", f"hub, {about}", f"hf download {name}"))
    return tuple(found)


def _bundled_status(folder: Path) -> AssetStatus:
    card: dict[str, Any] = {}
    try:
        card = read_card(folder)
        verify(folder)
    except RunError as error:
        return AssetStatus(folder.name, "damaged", str(error).split(":")[0], _remake(folder, card))
    about = str(card.get("about", ""))
    if (folder / composed_model.TRAINED).is_file() and (then := composed_model.missing()):
        return AssetStatus(folder.name, "can be installed", about, then)
    return AssetStatus(folder.name, "bundled", about)


def _whole(folder: Path) -> Path:
    """The folder itself, or that of the whole model if it holds the trained part of one."""
    if (folder / composed_model.TRAINED).is_file():
        return _verified(composed_model.compose(folder))
    return folder


def _verified(folder: Path) -> Path:
    verify(folder)
    return folder


def _hub(name: str) -> str:
    """Return `name` if its configuration is cached or can be fetched: one clear error, early."""
    from huggingface_hub import get_token, hf_hub_download
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import GatedRepoError

    if _in_hub_cache(name):
        return name
    then = f"Get it on a machine with network: `hf download {name}`"
    then += "; or give a local folder in hub layout."
    for model in packaged_model.MODELS.values():
        if model.hub_id == name:
            then += f" The package {model.package} holds a quantised copy: model={model.name}."
    if is_offline_mode():
        raise RunError(
            message(
                "model not in the hub cache, and HF_HUB_OFFLINE is set",
                given=name,
                expected=_expected(name),
                then=then,
            )
        )
    try:
        hf_hub_download(name, "config.json")
    except GatedRepoError as error:
        raise RunError(
            message(
                "the model is gated, and the hub did not let you in",
                given=name,
                expected="a token of somebody who accepted its licence"
                + ("" if get_token() else " (no token was found)"),
                then=f"Accept it at https://huggingface.co/{name}, then run `hf auth login`.",
            )
        ) from error
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = str(error).strip().splitlines() or [""]
        raise RunError(
            message(
                f"cannot get the model from the hub ({type(error).__name__}: {reason[0]})",
                given=name,
                expected=f"a hub that answers, or {_expected(name)}",
                then=then,
            )
        ) from error
    return name


def _expected(name: str) -> str:
    """Where a hub model would be, and how large a published one is."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from namm_mm.plan.models import KNOWN
    from namm_mm.plan.words import size as in_words

    folder = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    size = f" ({in_words(KNOWN[name].published_bytes)})" if name in KNOWN else ""
    return f"a cached model in {folder}{size}"


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _is_hub_id(name: str) -> bool:
    owner, slash, model = name.partition("/")
    return bool(owner and slash and model) and "/" not in model and owner[0] not in "./~"


def _remake(folder: Path, card: Mapping[str, Any]) -> str:
    """Command that makes a damaged asset again."""
    if not folder.is_relative_to(BUNDLED):
        return f"rm -r {folder}"  # a converted model: the next use converts it again
    return str(card.get("made_by") or "namm-mm build")  # which lists what can be made


def _files(folder: Path) -> list[Path]:
    return sorted(
        Path(root) / name for root, _, names in os.walk(folder) for name in names if name != CARD
    )
