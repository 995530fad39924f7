"""What kernels of LESS are trained on: whole sequences of a model, of text, of video or of control.

A model is run over each sequence in one call, once with the full cache and once as if its memory
had evicted. What its answers differ by is what all layers together are trained to bring down.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
from namm_mm.adapters.control.agents import TOKENS_PER_STEP
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.errors import UsageError, message
from namm_mm.models.resolve import resolve
from namm_mm.tasks.offline_rl import OfflineRlTask
from namm_mm.tasks.video_qa import VideoQaTask
from research.residuals.recording import cut_prose

HELD_OUT = 8
"""Sequences of another split that judge what was trained."""

Call = Mapping[str, Tensor]
"""What the model's forward is given: one sequence."""

Measure = Callable[[Any, Any, Call], Tensor]
"""How far the output under evictions is from that of the full cache: a mean over tokens."""


@dataclass(frozen=True)
class Material:
    """A model and its sequences.

    Attributes
    ----------
    model
        Is called with each of the sequences.
    calls
        The last `HELD_OUT` of them judge.
    interval
        Tokens between two evictions.
    measure, unit
        How far two outputs are from each other, and in what.
    """

    model: Any
    calls: Sequence[Call]
    interval: int
    measure: Measure
    unit: str = "nats"


def material(model: str, sequences: int) -> Material:
    """Return the material of a model by its kind, with `sequences` to train on.

    Raises
    ------
    UsageError
        A Decision Transformer does not say which environment it is for.
    """
    source = resolve(model)
    config = Path(source) / "config.json"
    facts = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if facts.get("model_type") == "decision_transformer":
        return of_control(model, sequences)
    if "vision_config" in facts:
        return of_video(model, sequences)
    return of_text(model, sequences)


def of_text(model: str, sequences: int, tokens: int = 512, interval: int = 128) -> Material:
    """Prose of the long-text task, `tokens` each."""
    adapter = TextAdapter(model=model)
    adapter.load()
    found = [
        *cut_prose(adapter.tokenizer, "train", sequences, tokens),
        *cut_prose(adapter.tokenizer, "test", HELD_OUT, tokens),
    ]
    calls = [{"input_ids": ids} for ids in found]
    return Material(adapter.backbone, calls, interval, nats_after(interval))


def nats_after(first: int) -> Measure:
    """Divergence of the next-token distribution at the tokens from `first` on, nats a token."""

    def measure(right: Any, found: Any, call: Call) -> Tensor:
        return _divergence(right.logits[0, first:], found.logits[0, first:])

    return measure


def of_video(model: str, sequences: int, interval: int = 64) -> Material:
    """Questions about videos; the answers differ at the tokens of text after the clip."""
    adapter = LlavaVideoAdapter(model=model)
    adapter.load()
    task = VideoQaTask()
    # Seeds beside those of the test and of the model's own training.
    asked = [
        *task.samples("train", sequences, seed=7),
        *task.samples("validation", HELD_OUT, seed=7),
    ]
    calls = [dict(adapter.prepare(sample).tensors) for sample in asked]
    placeholder = adapter.loaded.placeholder_token

    def measure(right: Any, found: Any, call: Call) -> Tensor:
        text = call["input_ids"][0] != placeholder
        text[:interval] = False
        return _divergence(right.logits[0, text], found.logits[0, text])

    return Material(adapter.loaded.model, calls, interval, measure)


def of_control(model: str, sequences: int, interval: int = 48, steps: int = 240) -> Material:
    """Episodes that the model plays with the full cache; the actions differ."""
    adapter = DecisionTransformerAdapter(model=model)
    adapter.load()
    task = _task_of(model, steps)
    calls = [
        *play(adapter, task, "train", sequences),
        *play(adapter, task, "validation", HELD_OUT),
    ]
    whole: Any = adapter.model.requires_grad_(False)

    def measure(right: Any, found: Any, call: Call) -> Tensor:
        places = torch.arange(1, right.last_hidden_state.shape[1], TOKENS_PER_STEP)
        places = places[places >= interval]  # an action is read off a state
        actions = [whole.predict_action(out.last_hidden_state[0, places]) for out in (right, found)]
        difference: Tensor = actions[0] - actions[1]
        return difference.square().mean()

    return Material(adapter.backbone, calls, interval, measure, "squared difference of actions")


def play(
    adapter: DecisionTransformerAdapter, task: OfflineRlTask, split: str, count: int
) -> Sequence[Call]:
    """Play `count` episodes with the full cache; return what the encoder was given in each."""
    whole: Any = adapter.model
    seen: list[Tensor] = []
    hook = whole.embed_ln.register_forward_hook(lambda *parts: seen.append(parts[-1].clone()))
    try:
        agent = adapter.agent(count, None, target_return=task.target_return())
        episodes = list(task.play(task.samples(split, count, seed=7), agent))
    finally:
        hook.remove()
    embedded = torch.cat(seen, dim=1).detach()
    lengths = {episode.row: len(episode.rewards) for episode in episodes}
    parts = (embedded[row : row + 1, : TOKENS_PER_STEP * n - 1] for row, n in lengths.items())
    return [
        {
            "inputs_embeds": part,
            "position_ids": torch.zeros(part.shape[:2], dtype=torch.long),
            # Without a mask, equal positions would be taken for sequences of one token each.
            "attention_mask": torch.ones(part.shape[:2], dtype=torch.long),
        }
        for part in parts
    ]


def _task_of(model: str, steps: int) -> OfflineRlTask:
    """The task that a Decision Transformer was trained for, as its card says."""
    card = Path(resolve(model)) / "card.json"
    facts = json.loads(card.read_text(encoding="utf-8")) if card.is_file() else {}
    if "environment" not in facts:
        raise UsageError(
            message(
                "the environment of the model is not known",
                given=model,
                expected="a model with a card.json that names it",
                then="`namm-mm list models` names those that are bundled.",
            )
        )
    return OfflineRlTask(
        environment=str(facts["environment"]),
        max_steps=steps,
        hidden_velocities=bool(facts.get("hidden_velocities")),
        orders=bool(facts.get("orders")),
    )


def _divergence(right: Tensor, found: Tensor) -> Tensor:
    """Kullback-Leibler divergence of logits (token, word), nats a token."""
    had, wanted = (logits.float().log_softmax(-1) for logits in (found, right))
    return kl_div(had, wanted, reduction="none", log_target=True).sum(-1).mean()
