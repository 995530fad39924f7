"""What a model lacks on this machine, found without reading or converting any weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from namm_mm.errors import RunError, message
from namm_mm.models import cards, composed, fetched, hub, packaged

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)
"""Files of which a tokenizer of transformers has one at least."""


def missing(name: str, *, tokenizer: bool) -> Iterator[str]:
    """Yield one sentence or two for everything that loading the model would fail for.

    Parameters
    ----------
    name
        As :func:`namm_mm.models.resolve.resolve` takes it; a name that stands for no model at all
        passes, since resolving it says so.
    tokenizer
        Whether the model needs one.
    """
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        yield from _missing_files(folder, tokenizer=tokenizer)
        return
    bundled = cards.BUNDLED / name
    try:
        if "/" not in name and (bundled / cards.CARD).is_file():
            card = cards.look(bundled)
            if (bundled / composed.TRAINED).is_file() and (install := composed.missing(card)):
                yield message(
                    "parts of the model are not installed",
                    given=name,
                    expected="the packages that hold them",
                    then=f"Run `{install}`.",
                )
        elif name in packaged.MODELS:
            model = packaged.MODELS[name]
            if packaged.cached(model) is None:
                packaged.installed_file(model)
        elif name in fetched.MODELS:
            fetched.located(fetched.MODELS[name])
        elif hub.is_id(name) and not folder.exists():
            hub.reachable(name)
    except RunError as error:
        yield str(error)


def _missing_files(folder: Path, *, tokenizer: bool) -> Iterator[str]:
    shards: set[str] = set()
    for index in folder.glob("*.index.json"):
        try:
            shards |= set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            yield message(
                f"the index of the weights cannot be read: {index}",
                given=index.name,
                expected="a JSON object with a `weight_map`",
            )
    gone = sorted(name for name in shards if not (folder / name).is_file())
    if gone:
        yield message(
            f"{len(gone)} files of weights are missing in {folder}",
            given=", ".join(gone[:4]),
            expected="every file that the index of the weights names",
        )
    elif not shards and not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        yield message(
            "the model has no weights",
            given=str(folder),
            expected="a folder in hub layout: model.safetensors beside config.json",
        )
    if tokenizer and not any((folder / name).is_file() for name in TOKENIZERS):
        yield message(
            "the model has no tokenizer",
            given=str(folder),
            expected="tokenizer files beside config.json, such as tokenizer.json",
            then="Copy them from the model that it was made from.",
        )
