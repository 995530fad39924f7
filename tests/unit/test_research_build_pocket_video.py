"""Training the pocket video model: its shortcuts compute what the model does, and it resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import assert_copied, assert_repeated
from transformers import LlavaNextVideoForConditionalGeneration

from namm_mm.models.cards import verify
from namm_mm.tasks.video_qa import footage
from research.builders.video import judging, pocket
from research.builders.video import pocket_losses as losses
from research.builders.video.pocket_batches import Batch, make_batch
from research.builders.video.pocket_model import (
    make_model,
    make_tokenizer,
    save_layout,
    take_weights,
)

pytestmark = [
    pytest.mark.numeric,
    pytest.mark.skipif(not footage.available(), reason=f"needs `{footage.INSTALL}`"),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="module")
def batch(tokenizer: Any) -> Batch:
    return make_batch(tokenizer, np.random.default_rng(0), clips=2, questions=3)


def fresh(tokenizer: Any) -> tuple[Any, losses.ExtraHeads]:
    torch.manual_seed(0)
    model = make_model(tokenizer)
    return model, losses.ExtraHeads(128, tokenizer)


def test_blocks_of_questions_answer_as_each_question_does_alone(
    tokenizer: Any, batch: Batch
) -> None:
    model, heads = fresh(tokenizer)
    seen: list[torch.Tensor] = []
    model.lm_head.register_forward_hook(lambda _module, _args, logits: seen.append(logits))
    with torch.no_grad():
        losses.losses(model.eval(), heads, batch)
    letters = seen[0]  # the first thing that `losses` reads
    video = [tokenizer.convert_tokens_to_ids("<video>")] * 4 * batch.frame_of.shape[1]
    for clip in range(2):
        for question in range(3):
            end = int(batch.letter_at[clip, question]) + 1
            block = batch.blocks[clip, question, :end].tolist()
            with torch.no_grad():
                alone = model(
                    input_ids=torch.tensor([batch.prefix.tolist() + video + block]),
                    pixel_values_videos=batch.frames.pixels[batch.frame_of[clip]][None],
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
            if batch.value[clip, question] >= 0:
                assert batch.blocks[clip, question, right] == batch.value[clip, question]
            assert batch.blocks[clip, question, right - 2] == batch.letter[clip, question]
            assert words[int(batch.letter_at[clip, question])] == ":"


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.slow
def test_a_build_that_was_killed_goes_on_as_if_never_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path))
    for name, value in (("SAVED", 1), ("JUDGED", 2), ("CLIPS", 1), ("QUESTIONS", 2)):
        monkeypatch.setattr(pocket, name, value)
    plan = pocket.Plan(steps=2, looks=2)

    def run(work: Path, kill: str = "") -> tuple[Any, list[str], dict[str, Any]]:
        told: list[str] = []

        def say(line: str) -> None:
            if kill and line.startswith(kill):
                raise Killed
            told.append(line)

        model, _, history = pocket.train(work, plan, resume=True, say=say, judges=1)
        return model, told, history

    whole, told, history = run(tmp_path / "whole")
    assert [line.split(":")[0] for line in told] == [
        "vision 1/2", "vision 2/2", "step 1/2", "step 2/2", "validation",
    ]  # fmt: skip
    for kill in ("vision 2/2", "step 2/2"):
        with pytest.raises(Killed):
            run(tmp_path / "parts", kill)
    parts, rest, _ = run(tmp_path / "parts")
    assert rest[0] == "resuming after 2 looks and step 1 of 2"
    assert rest[1:] == told[-2:]
    assert_repeated(parts.state_dict(), whole.state_dict())
    tokenizer, families = make_tokenizer(), ("needle",)
    pocket.save(tmp_path / "asset", whole, tokenizer, plan, history, each=2, families=families)
    card = verify(tmp_path / "asset")
    right = card["accuracy_full_cache"]["test"]["needle"] >= judging.COVERED
    assert card["data"]["families"] == ["needle"] * right
    assert card["data"]["not_learned"] == ["needle"] * (not right)


def test_a_build_can_start_from_weights_of_a_smaller_vocabulary(
    tokenizer: Any, tmp_path: Path
) -> None:
    model, _ = fresh(tokenizer)
    words = model.config.text_config.vocab_size
    old: Any = LlavaNextVideoForConditionalGeneration(model.config)
    old.resize_token_embeddings(words - 11)
    save_layout(tmp_path, old, tokenizer)
    before = model.lm_head.weight[-11:].clone()
    take_weights(model, tmp_path)
    assert_copied(model.lm_head.weight[:-11], old.lm_head.weight)
    assert_copied(model.lm_head.weight[-11:], before)
    tower = "model.vision_tower.embeddings.patch_embedding.weight"
    assert_copied(model.state_dict()[tower], old.state_dict()[tower])
