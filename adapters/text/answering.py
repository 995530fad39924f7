"""The three ways to answer a prompt: by likelihood, by comparing options, by generating."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.adapters.common.greedy import greedy
from namm_mm.adapters.common.timing import TokenTimes, now
from namm_mm.records import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from namm_mm.adapters.text.prompt import Wording
    from namm_mm.memory import Memory
    from namm_mm.records import Inputs


def by_likelihood(model: Any, wording: Wording, inputs: Inputs, memory: Memory | None) -> Answer:
    """Return the log-probability of the right answer, and the text of greedy decoding."""
    ids = wording.continuation(inputs.sample, inputs.sample.answer)
    start = now(model.device)
    first, cache = _prefill(model, inputs, memory)
    seconds = now(model.device) - start
    logits = _continue(model, inputs, first, cache, ids)
    best = logits.argmax(-1).tolist()
    said = inputs.sample.answer if best == ids else wording.tokenizer.decode(best).strip()
    return Answer(
        text=said,
        log_probabilities=(_log_probability(logits, ids),),
        first_token_seconds=seconds,
        tokens=len(inputs.token_types) + len(ids),
    )


def by_options(model: Any, wording: Wording, inputs: Inputs, memory: Memory | None) -> Answer:
    """Return the most probable of the sample's options; `memory` then reports the prompt."""
    options = inputs.sample.options
    continuations = [wording.continuation(inputs.sample, option) for option in options]
    start = now(model.device)
    first, cache = _prefill(model, inputs, memory)
    seconds = now(model.device) - start
    found = []
    for ids in continuations:
        own = copy.deepcopy(cache) if len(ids) > 1 else cache
        found.append(_log_probability(_continue(model, inputs, first, own, ids), ids))
    if memory is not None:
        memory.cache = cache  # the last call went on with a copy
    best = max(range(len(options)), key=found.__getitem__)
    return Answer(
        text=options[best],
        option=best,
        log_probabilities=tuple(found),
        first_token_seconds=seconds,
        tokens=len(inputs.token_types) + len(continuations[best]),
    )


def by_generation(
    model: Any, wording: Wording, inputs: Inputs, memory: Memory | None, new_tokens: int
) -> Answer:
    """Return the text of greedy decoding, `new_tokens` at most."""
    _expect_prompt(inputs, memory)
    times = TokenTimes(model.device)
    settings = greedy(model, new_tokens)
    output = model.generate(**inputs.tensors, generation_config=settings, streamer=times)
    return Answer(
        text=wording.decode(output[0, len(inputs.token_types) :].tolist()),
        first_token_seconds=times.first_token_seconds,
        token_seconds=times.token_seconds,
        tokens=int(output.shape[1]),
    )


def _expect_prompt(inputs: Inputs, memory: Memory | None) -> None:
    """Tell the memory where the prompt ends, if it prunes there."""
    if memory is not None:
        memory.expect_prompt(len(inputs.token_types))


def _prefill(model: Any, inputs: Inputs, memory: Memory | None) -> tuple[Tensor, Any]:
    """Run the prompt; return the logits (vocabulary,) after it, and the cache."""
    _expect_prompt(inputs, memory)
    output = model(**inputs.tensors, use_cache=True, logits_to_keep=1)
    return output.logits[0, -1], output.past_key_values


def _continue(model: Any, inputs: Inputs, first: Tensor, cache: Any, ids: Sequence[int]) -> Tensor:
    """Return the logits (len(ids), vocabulary) that predict each of `ids` after the prompt."""
    if len(ids) == 1:
        return first[None]
    fed = torch.tensor([ids[:-1]], device=first.device)
    mask = inputs.tensors["attention_mask"]
    mask = torch.cat([mask, mask.new_ones(1, fed.shape[1])], dim=1)
    output = model(input_ids=fed, attention_mask=mask, past_key_values=cache, use_cache=True)
    return torch.cat([first[None], output.logits[0]])


def _log_probability(logits: Tensor, ids: Sequence[int]) -> float:
    """Return the sum over the tokens of a continuation, in nats; softmax in float32."""
    index = torch.tensor(ids, device=logits.device)[:, None]
    return float(logits.float().log_softmax(-1).gather(1, index).sum())
