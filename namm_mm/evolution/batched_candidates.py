"""Candidates in one batch: the prompt before the first eviction runs once for all of them.

Candidates cannot differ before that eviction. Each row gives the answer that its candidate gives
alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Tensor

from namm_mm.adapters.base import LanguageAdapter
from namm_mm.adapters.common.greedy import decode_rows, greedy, is_plain

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter
    from namm_mm.memory import Memory
    from namm_mm.records import Sample


def prefill(model: Any, memory: Memory, tokens: Tensor, rows: int, keep: int) -> Tensor:
    """Run the prompt `tokens` (1, token) for `rows` candidates.

    Returns
    -------
    Tensor
        (row, `keep`, vocabulary): logits at the last `keep` tokens.
    """
    length = tokens.shape[1]
    shared = memory.interval - 1 if rows > 1 and memory.interval < length - keep else 0
    if shared:
        model(input_ids=tokens[:, :shared], use_cache=True, logits_to_keep=1)
        memory.cache.batch_repeat_interleave(rows)
    logits: Tensor = model(
        input_ids=tokens[:, shared:].expand(rows, -1),
        attention_mask=tokens.new_ones(rows, length),
        past_key_values=memory.cache,
        use_cache=True,
        logits_to_keep=keep,
    ).logits
    return logits


def generates(adapter: AnsweringAdapter) -> TypeGuard[LanguageAdapter]:
    """Return whether the adapter decodes greedily, so that candidates can decode in one batch."""
    return (
        isinstance(adapter, LanguageAdapter)
        and adapter.answering == "generate"
        and is_plain(adapter.backbone)
    )


def generate(
    adapter: LanguageAdapter, memory: Memory, tokens: Tensor, sample: Sample, rows: int
) -> tuple[list[str], list[int]]:
    """Let `rows` candidates answer the prompt `tokens` (1, token) by greedy decoding.

    Returns
    -------
    answers, lengths
        Text of each answer, and the number of tokens of prompt and answer together.
    """
    model = adapter.backbone
    logits = prefill(model, memory, tokens, rows, 1)[:, -1]
    settings = greedy(model, adapter.new_tokens(sample))
    found = decode_rows(model, memory.cache, logits, tokens.shape[1], settings)
    texts = [adapter.decode(new) for new in found]
    return texts, [tokens.shape[1] + len(new) for new in found]
