"""The output projection of each attention layer, for policies that weigh what a value writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from namm_mm.errors import UnsupportedError, message

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMES = ("o_proj", "c_proj", "out_proj", "dense")
"""What families call the projection."""


def output_projections(model: nn.Module) -> tuple[Tensor, ...]:
    """Return the part of ``W_o`` that belongs to each query head, layer by layer.

    Returns
    -------
    tuple of Tensor
        For each layer (query_head, head_dim, hidden), a view of the model's weights.

    Raises
    ------
    UnsupportedError
        The layers of the model hold no projection that is known.
    """
    from transformers import PreTrainedModel

    whole: Any = model
    config = whole.config.get_text_config(decoder=True)
    decoder: Any = whole.get_decoder() if isinstance(model, PreTrainedModel) else model
    found: dict[int, Tensor] = {}
    for module in decoder.modules():
        layer, parts = vars(module).get("layer_idx"), dict(module.named_children())
        for name in NAMES:
            if isinstance(layer, int) and name in parts:
                found.setdefault(layer, _by_head(parts[name], config))
    if sorted(found) != list(range(config.num_hidden_layers)):
        raise UnsupportedError(
            message(
                f"the output projections of {type(model).__name__} are not known",
                given=f"layers {sorted(found)}",
                expected=f"{config.num_hidden_layers} layers with one of {', '.join(NAMES)}",
                then="Take the policy below it alone.",
            )
        )
    return tuple(found[layer] for layer in sorted(found))


def _by_head(projection: nn.Module, config: Any) -> Tensor:
    """Weight of a ``Linear`` (hidden, input), or of GPT-2's ``Conv1D`` (input, hidden)."""
    weight: Any = projection.weight
    if type(projection).__name__ != "Conv1D":
        weight = weight.T
    by_head: Tensor = weight.detach().unflatten(0, (int(config.num_attention_heads), -1))
    return by_head
