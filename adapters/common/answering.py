"""Answer a question about media: compare the options' first tokens, or generate.

The media are fed first and the rest of the prompt after them, on one cache. For a streaming memory
that is the same as one call. Under ``prune_after_prefill`` the media are the prompt: they are
pruned before the question is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from namm_mm.adapters.common.choices import letter_in
from namm_mm.adapters.common.timing import TokenTimes, now
from namm_mm.records import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from namm_mm.adapters.common.loaded import LoadedMediaModel
    from namm_mm.memory import Memory
    from namm_mm.records import Inputs

OF_TOKENS = ("input_ids", "attention_mask", "mm_token_type_ids")
"""Inputs with one entry for each token; all others are the media."""

OF_POSITIONS = (*OF_TOKENS, "image_grid_thw", "video_grid_thw", "second_per_grid_ts")
"""Inputs from which M-RoPE counts positions."""


def by_options(
    loaded: LoadedMediaModel, inputs: Inputs, memory: Memory | None, compared: Sequence[int]
) -> Answer:
    """Return the option whose first token, one of `compared`, is the most probable."""
    options = inputs.sample.options
    start = now(loaded.model.device)
    cache, end = _feed_media(loaded, inputs, memory)
    output = loaded.model(  # without a mask, which models with M-RoPE would count positions by
        input_ids=inputs.tensors["input_ids"][:, end:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    found = output.logits[0, -1].float().log_softmax(-1)[compared].tolist()
    seconds = now(loaded.model.device) - start
    best = max(range(len(found)), key=found.__getitem__)
    return Answer(
        text=options[best],
        option=best,
        log_probabilities=tuple(found),
        first_token_seconds=seconds,
        tokens=len(inputs.token_types) + 1,
    )


def by_generation(
    loaded: LoadedMediaModel, inputs: Inputs, memory: Memory | None, new_tokens: int
) -> Answer:
    """Return the text of greedy decoding, `new_tokens` at most, and the option that it names."""
    times = TokenTimes(loaded.model.device)
    cache, _ = _feed_media(loaded, inputs, memory)
    output = loaded.model.generate(
        input_ids=inputs.tensors["input_ids"],
        attention_mask=inputs.tensors["attention_mask"],
        past_key_values=cache,
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=loaded.pad_token,
        streamer=times,
    )
    new = output[0, len(inputs.token_types) :]
    text = loaded.tokenizer.decode(new, skip_special_tokens=True).strip()
    return Answer(
        text=text,
        option=letter_in(text, inputs.sample.options),
        first_token_seconds=times.first_token_seconds,
        token_seconds=times.token_seconds,
        tokens=int(output.shape[1]),
    )


def _feed_media(loaded: LoadedMediaModel, inputs: Inputs, memory: Memory | None) -> tuple[Any, int]:
    """Run the prompt up to the end of the media; return the cache and the number of tokens.

    A memory that prunes once prunes there.
    """
    places = (inputs.tensors["input_ids"][0] == loaded.placeholder_token).nonzero()
    end = int(places[-1]) + 1
    if memory is not None:
        memory.expect_prompt(end)
    given = {
        name: tensor[:, :end] if name in OF_TOKENS else tensor
        for name, tensor in inputs.tensors.items()
    }
    output = loaded.feeder(**given, use_cache=True, logits_to_keep=1)
    if "mm_token_type_ids" in inputs.tensors:
        _go_on_after(loaded, inputs)
    return output.past_key_values, end


def _go_on_after(loaded: LoadedMediaModel, inputs: Inputs) -> None:
    """Tell a model with M-RoPE where the rest of the prompt goes on.

    It has seen the media alone, and would go on after the last moment of a video. In a whole prompt
    the text goes on after the rows and columns of a frame.
    """
    core = loaded.model.model
    given = {name: inputs.tensors[name] for name in OF_POSITIONS if name in inputs.tensors}
    positions, _ = core.get_rope_index(**given)
    core.rope_deltas = positions[0, :, -1:] - (positions.shape[-1] - 1)
