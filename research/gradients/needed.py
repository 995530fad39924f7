"""Which tokens of a prompt its answer needs, as one who has seen the answer would say.

The slope of an answer (:mod:`research.gradients.importance`) is spread over all that was read, and
nearly half of it lies on the first tokens and the newest. What a memory can be wrong about are the
tokens that say the answer and those that lead to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt

LEAD, AFTER = 8, 2  # tokens before the answer's, by which it is found, and behind them
SINKS, RECENT = 4, 8  # first tokens, and the newest at an update, that any model leans on


def said(tokenizer: Any, prompt: Prompt) -> Tensor:
    """(token,) bool: any place that says the answer, wherever the prompt's text has it."""
    pieces = [tokenizer.decode([token]) for token in prompt.inputs.tensors["input_ids"][0].tolist()]
    text, answer = "".join(pieces), prompt.inputs.sample.answer
    ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
    starts = ends - torch.tensor([len(piece) for piece in pieces])
    found = torch.zeros(len(pieces), dtype=torch.bool)
    at = text.find(answer) if answer else -1
    while at >= 0:
        found |= (ends > at) & (starts < at + len(answer))
        at = text.find(answer, at + 1)
    return found


def needed(tokenizer: Any, prompt: Prompt) -> Tensor:
    """(token,) bool: near any place that says the answer."""
    found = said(tokenizer, prompt)
    for place in found.nonzero().flatten().tolist():
        found[max(0, place - LEAD) : place + 1 + AFTER] = True
    return found


def wanted(mask: Tensor, seen: int) -> Tensor:
    """(token,) bool: what is needed, the first tokens, and the newest of the first `seen`."""
    found = mask.clone()
    found[:SINKS] = True
    found[max(0, seen - RECENT) : seen] = True
    return found
