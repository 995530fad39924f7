"""A model made by hand that answers with a needle that it read far above, if it still has it.

One layer, one head. Every token looks at needles more than at anything else, the question much more
so, and repeats what it finds. A memory that forgets the needle leaves the model guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch

from namm_mm.adapters.base import LanguageAdapter
from namm_mm.records import Answer, Inputs, Sample, Score, TokenType
from namm_mm.tasks.base import AnsweringTask

FILLERS, NEEDLES = 16, 8
QUESTION = FILLERS + NEEDLES
LENGTH = 176
_SLOT = 7  # of the head: rotary embedding turns it so slowly that positions do not matter


def needle_model() -> Any:
    """A Llama whose weights are written down."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=QUESTION + 1,
        hidden_size=32,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=16,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    model: Any = LlamaForCausalLM(config).eval()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.zero_()
        layer = model.model.layers[0].self_attn
        words = model.model.embed_tokens.weight
        words[:, 0] = 1.0  # every token
        words[FILLERS:QUESTION, 1] = 1.0  # needles
        words[QUESTION, 2] = 1.0  # the question
        words[:FILLERS, 3] = 1.0  # fillers, so that all are of one length
        for needle in range(NEEDLES):
            words[FILLERS + needle, 8 + needle] = 1.0
            layer.v_proj.weight[needle, 8 + needle] = 1.0
            layer.o_proj.weight[16 + needle, needle] = 4.0
            model.lm_head.weight[FILLERS + needle, 16 + needle] = 2.0
        layer.q_proj.weight[_SLOT, 0] = 1.0
        layer.q_proj.weight[_SLOT, 2] = 3.0
        layer.k_proj.weight[_SLOT, 1] = 1.0
    return model


@dataclass
class NeedleAdapter(LanguageAdapter):
    """Reads samples whose context is a list of tokens."""

    _model: Any = field(default=None, init=False)

    @property
    def model_name(self) -> str:
        return "needle"

    def load(self) -> None:
        self._model = needle_model()

    @property
    def backbone(self) -> Any:
        return self._model

    def prepare(self, sample: Sample) -> Inputs:
        ids = torch.tensor([[int(word) for word in sample.context.split()]])
        return Inputs({"input_ids": ids}, (TokenType("text"),) * ids.shape[1], sample)

    def continuation(self, sample: Sample, text: str) -> list[int]:
        return [int(text)]

    def answer(self, inputs: Inputs, memory: Any) -> Answer:
        with torch.no_grad():
            logits = self._model(**inputs.tensors, use_cache=True, logits_to_keep=1).logits
        return Answer(str(int(logits[0, -1].argmax())), tokens=len(inputs.token_types) + 1)


@dataclass(frozen=True)
class NeedleTask(AnsweringTask):
    """One needle among fillers, then the question."""

    def samples(self, split: str, limit: int | None, seed: int) -> Sequence[Sample]:
        return [self._sample(split, seed, number) for number in range(limit or 16)]

    def _sample(self, split: str, seed: int, number: int) -> Sample:
        random = Random(f"{split} {seed} {number}")
        words = [random.randrange(FILLERS) for _ in range(LENGTH)]
        needle = FILLERS + random.randrange(NEEDLES)
        words[random.randrange(LENGTH // 2)] = needle
        words[-1] = QUESTION
        return Sample(
            id=f"{split}-{seed}-{number}",
            family="needle",
            context=" ".join(map(str, words)),
            answer=str(needle),
        )

    def score(self, sample: Sample, answer: Answer) -> Score:
        return Score(float(answer.text == sample.answer), "exact_match")

    def fingerprint(self) -> str:
        return "needle"
