"""Find a model by name: a local folder, a bundled asset, a packaged model, or a hub id.

:func:`resolve` is the one way from a name in a configuration to files on disk. It looks, in this
order, at

1. a **local folder** (anything holding a ``config.json`` or ``card.json``, in hub layout);
2. a **bundled** asset, a folder of ``namm_mm/assets`` with a card that carries the SHA-256 of every
   file: a damaged one is refused, with the command that makes it again; where it holds only the
   trained part of a model, the rest is taken from packages (:mod:`namm_mm.models.composed`);
3. a **packaged** model, whose weights come inside a Python package: converted once and cached;
   or a **fetched** one, which ``namm-mm models get NAME`` has put into the cache;
4. a **hub id** ``owner/name``, from the local hub cache or, when online, the hub.

A name stands for one set of weights: ``smollm2-135m-instruct`` is always the packaged, quantised
SmolLM2 and never silently the hub's original, whose numbers differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, UsageError, message
from namm_mm.models import cards, fetched
from namm_mm.models import composed as composed_model
from namm_mm.models import packaged as packaged_model
from namm_mm.models.known import KNOWN

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
    if (folder / "config.json").is_file() or (folder / cards.CARD).is_file():
        return _whole(folder)
    if (cards.BUNDLED / name / cards.CARD).is_file() and "/" not in name:
        cards.verify(cards.BUNDLED / name)
        return _whole(cards.BUNDLED / name)
    if name in packaged_model.MODELS:
        return _verified(packaged_model.convert(packaged_model.MODELS[name]))
    if name in fetched.MODELS:
        return _verified(fetched.located(fetched.MODELS[name]))
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
            valid=[*packaged_model.MODELS, *fetched.MODELS, *bundled(), *HUB_MODELS],
            then="`namm-mm list` shows what is here.",
        )
    )


def bundled() -> Iterator[str]:
    """Names of the assets that ship with the package."""
    if cards.BUNDLED.is_dir():
        yield from sorted(p.name for p in cards.BUNDLED.iterdir() if (p / cards.CARD).is_file())


def list_assets() -> tuple[AssetStatus, ...]:
    """Say what is here, what can be installed, and how."""
    found = [_bundled_status(cards.BUNDLED / name) for name in bundled()]
    for model in packaged_model.MODELS.values():
        about = f"{model.about}, from {model.package}"
        if packaged_model.cached(model):
            found.append(AssetStatus(model.name, "cached", about))
        elif packaged_model.source(model):
            found.append(AssetStatus(model.name, "cached", f"{about}, converted at first use"))
        else:
            found.append(AssetStatus(model.name, "can be installed", about, model.install))
    for other in fetched.MODELS.values():
        about = f"{other.about}; licence: {other.licence}"
        if fetched.cached(other):
            found.append(AssetStatus(other.name, "cached", about))
        else:
            found.append(AssetStatus(other.name, "absent", about, other.command))
    for name, about in HUB_MODELS.items():
        if _in_hub_cache(name):
            found.append(AssetStatus(name, "cached", f"hub, {about}"))
        else:
            found.append(AssetStatus(name, "absent", f"hub, {about}", f"hf download {name}"))
    return tuple(found)


def _bundled_status(folder: Path) -> AssetStatus:
    card: dict[str, Any] = {}
    try:
        card = cards.read_card(folder)
        cards.verify(folder)
    except RunError as error:
        return AssetStatus(
            folder.name, "damaged", str(error).split(":")[0], cards.remake(folder, card)
        )
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
    cards.verify(folder)
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

    folder = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    size = f" ({KNOWN[name].published_bytes / 2**30:.1f} GiB)" if name in KNOWN else ""
    return f"a cached model in {folder}{size}"


def _in_hub_cache(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def _is_hub_id(name: str) -> bool:
    owner, slash, model = name.partition("/")
    return bool(owner and slash and model) and "/" not in model and owner[0] not in "./~"
