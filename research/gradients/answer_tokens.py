"""Which tokens of a prompt its answer needs, judged with knowledge of the answer.

The gradient of an answer (:mod:`research.gradients.examples`) is spread over the whole prompt, and
nearly half of it falls on the first and the newest tokens. What a memory can get wrong are the
tokens that contain the answer and those that lead to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt

BEFORE, AFTER = 8, 2  # tokens before the answer, by which it is found, and behind it
SINKS, RECENTS = 4, 8  # first tokens, and the newest at an update, that every model attends to


def containing_answer(tokenizer: Any, prompt: Prompt) -> Tensor:
    """Return (token,) bool: the tokens of every occurrence of the answer in the prompt."""
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


def near_answer(tokenizer: Any, prompt: Prompt) -> Tensor:
    """Return (token,) bool: the tokens of every occurrence of the answer, and those around it."""
    found = containing_answer(tokenizer, prompt)
    for place in found.nonzero().flatten().tolist():
        found[max(0, place - BEFORE) : place + 1 + AFTER] = True
    return found


def with_sinks_and_recents(mask: Tensor, seen: int) -> Tensor:
    """Return (token,) bool: `mask`, the first tokens, and the newest of the first `seen`."""
    found = mask.clone()
    found[:SINKS] = True
    found[max(0, seen - RECENTS) : seen] = True
    return found
