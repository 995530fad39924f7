"""Models of the Hugging Face hub: whether one is here, and whether it can be fetched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from namm_mm.errors import RunError, message
from namm_mm.models import packaged
from namm_mm.models.known import KNOWN

MODELS: Mapping[str, str] = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": "text",
    "meta-llama/Meta-Llama-3-8B": "text; the model of the NAMM paper, gated",
    "llava-hf/LLaVA-NeXT-Video-7B-hf": "video",
    "edbeeching/decision-transformer-gym-hopper-medium": "control",
}
"""Published models that the configurations name; any other hub id works too."""


def reachable(name: str) -> str:
    """Return `name` if its configuration is cached or can be fetched.

    Raises
    ------
    RunError
        It is neither; the message holds the command that gets it.
    """
    from huggingface_hub import get_token, hf_hub_download
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import GatedRepoError

    if cached(name):
        return name
    then = f"Get it on a machine with network: `hf download {name}`"
    then += "; or give a local folder in hub layout."
    for model in packaged.MODELS.values():
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


def cached(name: str) -> bool:
    """Whether the configuration of a model is in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def seems_cached(name: str) -> bool:
    """Whether a snapshot of a model is in the hub's cache, without loading the hub's client."""
    home = os.environ.get("HF_HOME") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "huggingface"
    )
    cache = Path(os.environ.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    folder = cache / f"models--{name.replace('/', '--')}"
    return any(folder.glob("snapshots/*/config.json"))


def is_id(name: str) -> bool:
    """Whether a name has the form ``owner/name``."""
    owner, slash, model = name.partition("/")
    return bool(owner and slash and model) and "/" not in model and owner[0] not in "./~"
