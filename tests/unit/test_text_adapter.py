"""The text adapter: one answer however a question is asked, with and without a memory."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from compare import assert_same_indices
from text_checkpoints import CHARACTERS, save

from namm_mm.adapters import ADAPTERS
from namm_mm.adapters.base import AnsweringAdapter
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.errors import RunError, UsageError
from namm_mm.memory import attach
from namm_mm.policies import Budget, create
from namm_mm.records import MemoryUse, Sample, TokenType
from namm_mm.testing import check_adapter
from namm_mm.testing.tiny import TINY

pytestmark = pytest.mark.numeric

TEXT = "the quick brown fox jumps over the lazy dog and runs away from 40 angry wolves; "
SAMPLE = Sample("a", "toy", context=TEXT, question="who runs? the ", answer="fox")
CHOICE = Sample("b", "toy", TEXT[::-1], "\nwho? ", ("fox", "dog", "wolves", "x"), "fox")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save(tmp_path_factory.mktemp("llama"), "llama")


def loaded(model: str, **options: Any) -> TextAdapter:
    adapter = TextAdapter(model=model, dtype="float32", device="cpu", **options)
    adapter.load()
    return adapter


@pytest.mark.parametrize("family", sorted(TINY))
def test_every_family_keeps_the_promises_of_an_adapter(family: str, tmp_path: Path) -> None:
    adapter = loaded(save(tmp_path, family))
    assert isinstance(adapter, AnsweringAdapter)
    check_adapter(adapter, [SAMPLE, CHOICE, replace(SAMPLE, id="c", context=TEXT * 2)])


def test_the_registry_knows_it() -> None:
    assert ADAPTERS.get("text") is TextAdapter


@pytest.mark.parametrize("budget", [None, 12])
def test_likelihood_agrees_with_generating(llama: str, budget: int | None) -> None:
    """Teacher forcing through the memory gives what decoding token by token gives."""
    policy = create("full") if budget is None else create("h2o", budget=Budget(tokens=budget))
    generating = loaded(llama, answer_by="generate", max_new_tokens=20)
    scoring = loaded(llama)
    with attach(generating.backbone, policy, interval=8) as memory:
        answer = generating.answer(generating.prepare(SAMPLE), memory)
        used = memory.usage()
    # Answers begin after the space of the question, which is a token of its own here.
    right = replace(SAMPLE, question="who runs? the", answer=answer_text(generating, policy))
    wrong = replace(right, answer=right.answer[:-1] + ("x" if right.answer[-1] != "x" else "y"))
    with attach(scoring.backbone, policy, interval=8) as memory:
        assert scoring.answer(scoring.prepare(right), memory).text == right.answer
        assert settled(memory.usage()) == settled(used)
        assert scoring.answer(scoring.prepare(wrong), memory).text != wrong.answer
    assert answer.tokens == len(scoring.prepare(right).token_types) + 20
    assert answer.first_token_seconds > 0
    assert answer.token_seconds > 0


def settled(use: MemoryUse) -> MemoryUse:
    """Leave out the peaks and the allocated room, which depend on how many tokens a call had."""
    return replace(use, tokens_peak=0.0, bytes_peak=0, bytes_final=0, live_peak=0)


def answer_text(adapter: TextAdapter, policy: Any) -> str:
    """Text that the model generates after SAMPLE, white space and all."""
    inputs = adapter.prepare(SAMPLE)
    with attach(adapter.backbone, policy, interval=8):
        output = adapter.backbone.generate(  # type: ignore[operator]
            **inputs.tensors, max_new_tokens=20, do_sample=False
        )
    text: str = adapter.tokenizer.decode(output[0, len(inputs.token_types) :])
    return text


@torch.no_grad()
@pytest.mark.parametrize("protocol", ["streaming", "prune_after_prefill"])
def test_options_are_scored_as_if_each_were_alone(llama: str, protocol: str) -> None:
    """Copies of the prompt's memory: no option sees another, and the numbers stay the prompt's."""
    adapter = loaded(llama, answer_by="options")
    policy = create("h2o", budget=Budget(tokens=12))
    with attach(adapter.backbone, policy, interval=8, protocol=protocol) as memory:
        inputs = adapter.prepare(CHOICE)
        answer = adapter.answer(inputs, memory)
        use, kept = memory.usage(), memory.kept(0)
        assert use.seen == len(inputs.token_types)
        alone = []
        for option in CHOICE.options:
            ids = [CHARACTERS.index(c) for c in " " + option]
            memory.reset()
            memory.expect_prompt(len(inputs.token_types))
            output = adapter.backbone(**inputs.tensors)
            logits = [output.logits[0, -1]]
            for step in ids[:-1]:
                mask = torch.ones(1, len(inputs.token_types) + len(logits), dtype=torch.int64)
                output = adapter.backbone(
                    input_ids=torch.tensor([[step]]),
                    attention_mask=mask,
                    past_key_values=memory.cache,
                )
                logits.append(output.logits[0, -1])
            steps = zip(logits, ids, strict=True)
            alone.append(sum(float(row.log_softmax(-1)[at]) for row, at in steps))
    assert answer.log_probabilities == pytest.approx(alone, abs=1e-4)
    assert answer.option == max(range(4), key=alone.__getitem__)
    assert len(set(map(round, alone))) > 1
    with attach(adapter.backbone, policy, interval=8, protocol=protocol) as memory:
        memory.expect_prompt(len(inputs.token_types))
        adapter.backbone(**inputs.tensors)
        assert memory.usage() == use
        for positions, expected in zip(memory.kept(0), kept, strict=True):
            assert_same_indices(positions, expected)


def test_eviction_changes_the_likelihood(llama: str) -> None:
    adapter = loaded(llama)
    inputs = adapter.prepare(SAMPLE)
    plain = adapter.answer(inputs, None).log_probabilities[0]
    with attach(adapter.backbone, create("recency", budget=Budget(tokens=8)), interval=8) as m:
        evicted = adapter.answer(inputs, m).log_probabilities[0]
    assert math.isfinite(plain)
    assert abs(plain - evicted) > 0.1


def test_long_prompts_lose_their_middle(llama: str) -> None:
    adapter = loaded(llama, max_length=40, max_new_tokens=9)
    whole = SAMPLE.context + SAMPLE.question.rstrip()
    inputs = adapter.prepare(SAMPLE)
    assert inputs.token_types == (TokenType("text"),) * 31
    text = adapter.tokenizer.decode(inputs.tensors["input_ids"][0])
    assert text == whole[:15] + whole[-16:]


def test_chat_wraps_the_prompt_in_the_template(tmp_path: Path) -> None:
    model = save(tmp_path, "llama")
    with pytest.raises(UsageError, match="no chat template"):
        loaded(model, chat=True)
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template + "{{ '[me] ' }}")
    adapter = loaded(model, chat=True)
    text = adapter.tokenizer.decode(adapter.prepare(SAMPLE).tensors["input_ids"][0])
    assert text == f"[user] {SAMPLE.context}{SAMPLE.question.rstrip()}[me] "


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"answer_by": "likelyhood"}, "Did you mean 'likelihood'"),
        ({"dtype": "bf16"}, "bfloat16"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"max_new_tokens": 0}, "1 or more"),
        ({"max_length": 32}, "more than max_new_tokens"),
    ],
)
def test_wrong_options_are_refused_before_loading(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        TextAdapter(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_absent_cuda_is_a_usage_error(llama: str) -> None:
    with pytest.raises(UsageError, match="the device is absent"):
        TextAdapter(model=llama, device="cuda").load()


def test_missing_weights_are_never_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = save(tmp_path, "llama")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"lacks 1 weights.*layers\.1\.mlp\.up_proj"):
        loaded(model)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="cannot load the weights"):
        loaded(model)


def test_a_model_of_another_kind_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip_vision_model"}')
    with pytest.raises(UsageError, match=r"not a causal language model: got.*A video model is"):
        loaded(str(tmp_path))


def test_options_are_asked_for_where_there_are_none(llama: str) -> None:
    adapter = loaded(llama, answer_by="options")
    with pytest.raises(UsageError, match=r"cannot be answered by options.*answer_by=generate"):
        adapter.answer(adapter.prepare(SAMPLE), None)


def test_using_it_before_loading_is_said() -> None:
    with pytest.raises(UsageError, match="call `load"):
        TextAdapter().prepare(SAMPLE)
