"""The losses of the pocket video model: answers, and the steps that lead to them.

The extra losses make training quick: the ordinal of an event at its first frame, the answering word
at the question mark, which option matches it, the letter of each option, and the text of the
question. Their linear heads are discarded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from namm_mm.tasks.video_qa.footage import SHOTS
from namm_mm.tasks.video_qa.questions import MOST_EVENTS, OPTIONS
from namm_mm.tasks.video_qa.scenes import ATTRIBUTES, COLORS, SHAPES
from research.builders.video.pocket_batches import BLOCK, TOKENS_PER_FRAME, Batch, Frames
from research.builders.video.question_blocks import Blocks, question_blocks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

AFTER = {"ordinal": 2, "change": 3, "value": 4, "shown": 5, "tag": 5}
"""The layer behind which each extra loss reads; the letter is read behind the last, the sixth."""
WATCHED = {3: "evidence", 4: "copy", 5: "pick"}
"""Layers, from 0, whose first two heads have a target: the question mark attends to the frames that
show the answer, the last token to the question mark, and then to the right option."""


class ExtraHeads(nn.Module):
    """Linear read-outs for the extra losses."""

    color_words: Tensor
    shape_words: Tensor
    shot_words: Tensor

    def __init__(self, width: int, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        named = ("color_words", COLORS), ("shape_words", SHAPES), ("shot_words", SHOTS)
        for name, words in named:
            ids = [tokenizer.get_vocab()[word] for word in words]
            self.register_buffer(name, torch.tensor(ids), persistent=False)
        self.color = nn.Linear(width, len(COLORS) + 1)
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.shot = nn.Linear(width, len(SHOTS) + 1)
        self.where = nn.Linear(width, 3)
        self.ordinal = nn.Linear(width, MOST_EVENTS)
        self.change = nn.Linear(width, len(ATTRIBUTES))
        self.shown = nn.Linear(width, 2)


def frame_features(model: Any, pixels: Tensor) -> Tensor:
    """Return the projected tokens (frame, TOKENS_PER_FRAME, width) of single frames."""
    features: Tensor = model.model.get_video_features(pixels[None]).pooler_output[0]
    return features.view(len(pixels), TOKENS_PER_FRAME, -1)


def _attention_losses(
    weights: dict[int, Tensor], batch: Batch, start: int, seen: int
) -> dict[str, Tensor]:
    """Return minus the log of the attention of the watched heads to their targets, in nats.

    The video is tokens `start` to `seen` of the shared part, and the block follows it.
    """
    row = torch.arange(len(batch.blocks))[:, None]
    column = torch.arange(batch.blocks.shape[1])[None]
    evidence, copy, pick = (weights[layer][:, :2] for layer in WATCHED)
    asked = evidence[row, :, column, batch.value_at, start:seen]
    shown = batch.evidence.repeat_interleave(TOKENS_PER_FRAME, dim=-1)[:, :, None]
    right = batch.value_at + 3 * (batch.answer + 1)
    masses = {
        "evidence": (asked * shown).sum(-1),
        "copy": copy[row, :, column, batch.letter_at, seen + batch.value_at],
        "pick": pick[row, :, column, batch.letter_at, seen + right],
    }
    found = {name: -(mass + 1e-6).log() for name, mass in masses.items()}
    told = (batch.value >= 0)[..., None]  # where the options are needed, the word is not known yet
    for name in ("evidence", "copy"):
        found[name] = found[name] * told / told.float().mean().clamp(min=1e-3)
    return {name: value.mean() for name, value in found.items()}


def naming(model: Any, heads: ExtraHeads, features: Tensor, frames: Frames) -> Tensor:
    """Return the loss of frames whose features are compared with the embeddings of words.

    With objects and words in one space, a question about a circle finds the circle. Label 0 does
    not count: there is nothing to name.
    """
    embeddings = model.get_input_embeddings().weight
    total = features.new_zeros((), dtype=torch.float32)
    for words, labels in (
        (heads.color_words, frames.colors),
        (heads.shape_words, frames.shapes),
        (heads.shot_words, frames.shots),
    ):
        logits = (features.mean(1) @ embeddings[words].T).float()
        loss = F.cross_entropy(logits, labels - 1, ignore_index=-1, reduction="sum")
        total = total + loss / (labels > 0).sum().clamp(min=1)
    return total


def describing(heads: ExtraHeads, features: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
    """Return the loss of the linear heads, and (frame,) bool: frames with all names right."""
    mean = features.mean(1)
    right = torch.ones(len(mean), dtype=torch.bool)
    total = features.new_zeros((), dtype=torch.float32)
    for head, labels in (
        (heads.color, frames.colors),
        (heads.shape, frames.shapes),
        (heads.shot, frames.shots),
    ):
        logits = head(mean).float()
        total = total + F.cross_entropy(logits, labels)
        right &= logits.argmax(-1) == labels
    there = ~frames.where[:, 0].isnan()
    off = (heads.where(mean).float() - frames.where)[there]
    return total + 4 * off.square().sum() / there.sum().clamp(min=1), right


def losses(model: Any, heads: ExtraHeads, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """Return the mean loss of each kind in nats, and (clip, question) bool: right letters."""
    features = frame_features(model, batch.frames.pixels)
    clips, questions, _ = batch.blocks.shape
    row, column = torch.arange(clips)[:, None], torch.arange(questions)[None]
    video = features[batch.frame_of].flatten(1, 2)
    start = len(batch.prefix)
    blocks = Blocks(start + video.shape[1], BLOCK, frozenset(WATCHED))
    states = _states(model, batch, video, blocks)
    seen = blocks.shared
    ends = slice(start + TOKENS_PER_FRAME - 1, seen, TOKENS_PER_FRAME)
    # Each step of the reasoning is read behind a layer of its own, so that the next can use it.
    asked, chosen, final = (
        states[at][:, seen:].view(clips, questions, BLOCK, -1)
        for at in (AFTER["value"], AFTER["tag"], -1)
    )
    letters = model.lm_head(final[row, column, batch.letter_at]).float()
    normed = model.model.language_model.norm(asked[row, column, batch.value_at])
    values = model.lm_head(normed).float()
    # Every option is a letter, a full stop and one word.
    options = batch.value_at[..., None] + 3 * torch.arange(1, OPTIONS + 1)
    offered = chosen[row[..., None], column[..., None], options]
    tags = model.lm_head(model.model.language_model.norm(offered)).float()
    tagged = batch.blocks[row[..., None], column[..., None], options - 2]
    ordinals = heads.ordinal(states[AFTER["ordinal"]][:, ends]).float()
    changes = heads.change(states[AFTER["change"]][:, ends]).float()
    shown = heads.shown(offered).float()
    value = batch.value.masked_fill(batch.hinted, -100)
    text = batch.blocks[:, :, 1:]
    found = {
        "letter": F.cross_entropy(letters.flatten(0, 1), batch.letter.flatten()),
        "value": _cross_entropy(values, value),
        "tag": F.cross_entropy(tags.flatten(0, 2), tagged.flatten()),
        "shown": _cross_entropy(shown, batch.shown),
        **_attention_losses(blocks.weights, batch, start, seen),
        "name": naming(model, heads, features, batch.frames),
        "text": F.cross_entropy(
            model.lm_head(final[:, :, :-1]).float().flatten(0, 2),
            text.masked_fill(text == batch.pad, -100).flatten(),
        ),
        "ordinal": _cross_entropy(ordinals, batch.ordinals),
        "change": _cross_entropy(changes, batch.changes),
    }
    return found, letters.argmax(-1) == batch.letter


def _states(model: Any, batch: Batch, video: Tensor, blocks: Blocks) -> tuple[Tensor, ...]:
    """Return the hidden states of each layer, (clip, token, width), the last one normed."""
    clips, questions, _ = batch.blocks.shape
    row, column = torch.arange(clips)[:, None], torch.arange(questions)[None]
    embed = model.get_input_embeddings()
    words = embed(batch.blocks)
    hint = torch.zeros_like(words)
    told = embed(batch.value.clamp(min=0))
    hint[row, column, batch.value_at] = told * (batch.hinted & (batch.value >= 0))[..., None]
    before = embed(batch.prefix)[None].expand(clips, -1, -1)
    embedded = [before.to(video.dtype), video, (words + hint).flatten(1, 2).to(video.dtype)]
    with question_blocks(model):
        output = model.model.language_model(
            inputs_embeds=torch.cat(embedded, dim=1),
            position_ids=blocks.positions(questions)[None].expand(clips, -1),
            use_cache=False,
            output_hidden_states=True,
            blocks=blocks,
        )
    return (*output.hidden_states[:-1], output.last_hidden_state)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the labels that are not -100; 0 where there are none."""
    total = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="sum")
    return total / (labels >= 0).sum().clamp(min=1)
