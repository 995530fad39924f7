"""The text of each token, for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from namm_mm.records import Inputs


def pieces(tokenizer: PreTrainedTokenizerBase, inputs: Inputs) -> tuple[str, ...]:
    """Return the text of each token of ``input_ids`` (1, token)."""
    ids = inputs.tensors["input_ids"][0].tolist()
    return tuple(tokenizer.batch_decode([[token] for token in ids]))
