"""Greedy decoding of one answer, or of several answers to one prompt in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig

# Settings of generation that change a greedy answer, with the values at which they do not.
_NEUTRAL = {
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1.0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
}


def greedy(model: Any, new_tokens: int) -> GenerationConfig:
    """Return settings of ``generate``: the most probable token each time, `new_tokens` at most."""
    from transformers import GenerationConfig

    defaults = model.generation_config
    end = defaults.eos_token_id
    pad = defaults.pad_token_id
    if pad is None:
        pad = end[0] if isinstance(end, list) else end
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=new_tokens,
        do_sample=False,
        bos_token_id=defaults.bos_token_id,
        eos_token_id=end,
        pad_token_id=pad,
    )


def is_plain(model: Any) -> bool:
    """Return whether no setting of `model` changes a greedy answer."""
    settings = model.generation_config.to_dict()
    return all(settings.get(name) in valid for name, valid in _NEUTRAL.items())


def decode_rows(
    model: Any, cache: Any, logits: Tensor, columns: int, settings: GenerationConfig
) -> list[list[int]]:
    """Continue a prompt in several rows at once; each row ends where it would end alone.

    A row that has ended gets no more tokens, so that its cache holds its own answer.

    Parameters
    ----------
    cache
        Holds the prompt for every row.
    logits
        (row, vocabulary) after the prompt.
    columns
        Tokens of the prompt.
    settings
        What :func:`greedy` returned.

    Returns
    -------
    list of list of int
        Tokens of each answer, an end token included.
    """
    import torch

    ends = torch.tensor(_as_list(settings.eos_token_id), device=logits.device)
    found: list[list[int]] = [[] for _ in logits]
    alive = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    mask = torch.ones(len(logits), columns, dtype=torch.long, device=logits.device)
    for left in range(int(settings.max_new_tokens or 0) - 1, -1, -1):
        tokens = logits.argmax(-1)
        for row in alive.nonzero()[:, 0].tolist():
            found[row].append(int(tokens[row]))
        alive &= ~torch.isin(tokens, ends)
        if not left or not bool(alive.any()):
            break
        mask = torch.cat([mask, alive[:, None].long()], dim=1)
        output = model(
            input_ids=tokens[:, None], attention_mask=mask, past_key_values=cache, use_cache=True
        )
        logits = output.logits[:, -1]
    return found


def _as_list(tokens: int | Sequence[int] | None) -> list[int]:
    if tokens is None:
        return []
    return [tokens] if isinstance(tokens, int) else list(tokens)
