"""What a plan would download: the weights of models of the hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from namm_mm.models.known import ModelFacts
from namm_mm.models.local import local_folder
from namm_mm.tasks.base import Download


def model_downloads(model: str, facts: ModelFacts | None) -> Iterator[Download]:
    """Yield the weights of a model, where they come from the hub."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_CACHE

    if "/" not in model or (Path(model).expanduser() / "config.json").is_file():
        return
    note = ""
    if facts is not None and facts.gated and get_token() is None:
        note = f"gated: accept the licence at https://huggingface.co/{model}, then `hf auth login`"
    yield Download(
        what=model,
        files="configuration, tokenizer or processor, and weights",
        bytes=None if facts is None else facts.published_bytes,
        cached=is_cached(model),
        where=str(Path(HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"),
        command=f"hf download {model}",
        note=note,
    )


def is_cached(model: str) -> bool:
    """Whether all weights of a hub model are in the cache: every shard that its index names."""
    folder = local_folder(model)
    if folder is None:
        return False
    for index in folder.glob("*.index.json"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / name).is_file() for name in names)
    return any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))
