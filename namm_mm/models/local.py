"""The configuration of a model that is on this machine; nothing is fetched and no weights load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from namm_mm.models.cards import BUNDLED


def local_folder(name: str) -> Path | None:
    """The folder that holds the model's ``config.json``, if one is on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for folder in (Path(name).expanduser(), BUNDLED / name):
        if (folder / "config.json").is_file():
            return folder
    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def decoder_config(name: str) -> Any | None:
    """Configuration of the model's decoder; None where it is not here, or cannot be read."""
    from transformers import AutoConfig

    folder = local_folder(name)
    if folder is None:
        return None
    try:
        return AutoConfig.from_pretrained(folder).get_text_config(decoder=True)
    except (OSError, ValueError, KeyError):  # said when the model loads
        return None
