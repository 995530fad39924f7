"""Training the pocket video model: its shortcuts compute what the model does, and it resumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface

from namm_mm.build import pocket_video_training as training
from namm_mm.build.pocket_video_batches import Batch, make_batch
from namm_mm.build.pocket_video_model import make_model, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="module")
def batch(tokenizer: Any) -> Batch:
    return make_batch(tokenizer, np.random.default_rng(0), clips=2, questions=3)


def fresh(tokenizer: Any) -> tuple[Any, training.ExtraHeads]:
    AttentionInterface.register(training.ATTENTION, training.block_attention)
    torch.manual_seed(0)
    model = make_model(tokenizer)
    return model, training.ExtraHeads(128, tokenizer)


def test_blocks_of_questions_answer_as_each_question_does_alone(
    tokenizer: Any, batch: Batch
) -> None:
    model, heads = fresh(tokenizer)
    seen: list[torch.Tensor] = []
    model.lm_head.register_forward_hook(lambda _module, _args, logits: seen.append(logits))
    model.set_attn_implementation({"text_config": training.ATTENTION})
    with torch.no_grad():
        training.losses(model.eval(), heads, batch)
    letters = seen[0]  # the first thing that `losses` reads
    model.set_attn_implementation({"text_config": "sdpa"})
    video = [tokenizer.convert_tokens_to_ids("<video>")] * 128
    for clip in range(2):
        for question in range(3):
            end = int(batch.letter_at[clip, question]) + 1
            block = batch.blocks[clip, question, :end].tolist()
            with torch.no_grad():
                alone = model(
                    input_ids=torch.tensor([batch.prefix.tolist() + video + block]),
                    pixel_values_videos=batch.pixels[batch.frame_of[clip]][None],
                ).logits[0, -1]
            assert torch.allclose(letters[clip, question], alone, atol=2e-4)
    assert letters.std() > 0.1, "all logits alike: the comparison would see nothing"


def test_every_question_fits_its_block_and_its_labels_are_its_words(
    tokenizer: Any, batch: Batch
) -> None:
    assert not (batch.blocks == tokenizer.unk_token_id).any()
    for clip in range(2):
        for question in range(3):
            words = tokenizer.convert_ids_to_tokens(batch.blocks[clip, question].tolist())
            at = int(batch.value_at[clip, question])
            right = at + 3 + 3 * int(batch.answer[clip, question])
            assert words[at] == "?"
            assert batch.blocks[clip, question, right] == batch.value[clip, question]
            assert batch.blocks[clip, question, right - 2] == batch.letter[clip, question]
            assert words[int(batch.letter_at[clip, question])] == ":"


def test_training_resumes_as_if_never_interrupted(tokenizer: Any) -> None:
    def run(stop: int) -> tuple[Any, dict[str, float]]:
        state: dict[str, Any] = {}
        last: dict[str, float] = {}
        for start in (0, stop):
            model, heads = fresh(tokenizer)
            model.set_attn_implementation({"text_config": training.ATTENTION})
            optimizer = training.make_optimizer(model, heads)
            if state:
                model.load_state_dict(state["model"])
                heads.load_state_dict(state["heads"])
                optimizer.load_state_dict(state["optimizer"])
            lessons = training.learn(
                model, heads, optimizer, tokenizer,
                start=start, steps=3, seed=0, peak=1e-2, clips=1, questions=2,
            )  # fmt: skip
            for step, last in lessons:  # noqa: B007
                if step == stop:
                    break
            state = {"model": model.state_dict(), "heads": heads.state_dict()}
            state["optimizer"] = optimizer.state_dict()
        return model, last

    (whole, told), (parts, told_again) = run(3), run(1)
    assert told == told_again
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    start, _ = fresh(tokenizer)
    assert not torch.equal(whole.lm_head.weight, start.lm_head.weight)
    tower = "model.vision_tower"
    assert all(
        torch.equal(value, start.state_dict()[name])
        for name, value in whole.state_dict().items()
        if name.startswith(tower)
    ), "the vision tower should be frozen"
