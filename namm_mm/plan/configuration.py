"""Facts of a model from its ``config.json`` alone: the model is built without any weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.video.frames import processor_files
from namm_mm.adapters.video.kinds import KINDS
from namm_mm.errors import RunError, message
from namm_mm.models.known import KNOWN, ModelFacts
from namm_mm.models.local import local_folder

if TYPE_CHECKING:
    from torch import nn

TOKENS_PER_STEP = 3
"""A Decision Transformer reads return, state and action at every step."""


def facts_of(name: str) -> ModelFacts | None:
    """Facts of a model by its name in a configuration; None where nothing is known of it.

    Nothing is fetched: the table of published models, else a configuration that is on this machine.

    Raises
    ------
    RunError
        A local configuration cannot be read.
    """
    if name in KNOWN:
        return KNOWN[name]
    folder = local_folder(name)
    return None if folder is None else read_facts(folder)


def read_facts(folder: Path) -> ModelFacts:
    """Build the model of a configuration on the ``meta`` device and count it.

    Raises
    ------
    RunError
        The configuration cannot be read, or is of a class that transformers does not know.
    """
    import torch
    from transformers import AutoConfig

    try:
        config: Any = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model: nn.Module = _class_of(config)(config)
    except Exception as error:  # whatever a configuration can be wrong in
        first = (str(error).strip().splitlines() or [""])[0]
        raise RunError(
            message(
                f"cannot plan with {folder / 'config.json'} ({type(error).__name__}: {first})",
                given=folder.name,
                expected="the configuration of a model of transformers",
            )
        ) from error
    parameters, unquantized = count(model)
    text = config.get_text_config(decoder=True)
    heads = int(text.num_attention_heads)
    hidden = int(text.hidden_size)
    frame, trailing = _frame_tokens(folder, config)
    return ModelFacts(
        parameters=parameters,
        unquantized=unquantized,
        layers=int(text.num_hidden_layers),
        query_heads=heads,
        kv_heads=_size(text, "num_key_value_heads") or heads,
        head_dim=_size(text, "head_dim") or hidden // heads,
        hidden=hidden,
        inner=_size(text, "intermediate_size") or 4 * hidden,
        context=_context(config, text),
        stored_bytes=_stored_bytes(config),
        tokens_per_frame=frame,
        trailing=trailing,
    )


def count(model: nn.Module) -> tuple[int, int]:
    """Numbers in all weights, and in those that 4-bit loading leaves as they are."""
    from torch import nn

    total = sum(parameter.numel() for parameter in model.parameters())
    packed = sum(
        module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name
    )
    return total, total - packed


def _class_of(config: Any) -> Any:
    import transformers

    for name in config.architectures or ():
        try:
            return getattr(transformers, name)
        except AttributeError:  # a class of the checkpoint's own
            continue
    return transformers.AutoModel.from_config


def _context(config: Any, text: Any) -> int:
    if config.model_type == "decision_transformer":
        return int(config.max_ep_len) * TOKENS_PER_STEP
    return _size(text, "max_position_embeddings")


def _size(config: Any, name: str) -> int:
    """A size of a configuration; 0 where its class has none of this name."""
    try:
        return int(getattr(config, name) or 0)
    except AttributeError:
        return 0


def _stored_bytes(config: Any) -> int:
    import torch

    dtype = config.dtype
    return int(dtype.itemsize) if isinstance(dtype, torch.dtype) else 4


def _frame_tokens(folder: Path, config: Any) -> tuple[int, int]:
    """Tokens of a frame, and those after the last; zeros for a model without video."""
    if config.model_type not in KINDS:
        return 0, 0
    size = int(config.vision_config.image_size)
    layout = KINDS[config.model_type].layout(
        size, size, processor_files(folder, folder.name)[1], config
    )
    return layout.tokens_per_frame, layout.trailing
