"""``namm-mm build smollm2-video``: train the small part between DINOv2 and SmolLM2.

Both models come from packages and are frozen. Checkpoints are compared on validation videos, and
the best one is scored once on test videos, as those of the pocket model are. Every score is of the
model as it is put together for use (:mod:`namm_mm.models.composed`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from namm_mm.commands.build import Builder
from namm_mm.models import composed, packaged
from namm_mm.models.cache import cache_root
from namm_mm.models.cards import BUNDLED, sha256, write_card
from research.builders.video import judging, smollm2_training
from research.builders.video.judging import VALIDATION, Judge, adapter_of, samples
from research.builders.video.optimizing import (
    Best,
    Phase,
    Supervision,
    Weights,
    save_state,
    supervise,
)
from research.builders.video.pocket_training import Questions
from research.builders.video.smollm2_batches import FAMILIES

if TYPE_CHECKING:
    from namm_mm.adapters.video.adapter import LlavaVideoAdapter

ASSET = "smollm2_video"
CHECKPOINT = "training.pt"
LOOKS, STEPS = 150, 800
CLIPS, QUESTIONS = 4, 8
LOOK_PEAK, PEAK = 2e-3, 1e-3
REPORTED = 50
"""Test videos of each family."""

SAVED, JUDGED = 25, 150
"""Steps between two checkpoints, and between two validations."""


@dataclass(frozen=True)
class Plan:
    """What decides the weights; see :class:`BuildSmolLM2Video`."""

    seed: int = 0
    steps: int = STEPS
    looks: int = LOOKS


@dataclass(frozen=True)
class BuildSmolLM2Video(Builder):
    """Trains, selects, scores and saves the trained part.

    Attributes
    ----------
    out
        Folder of the asset; None is the bundled one, which is replaced.
    seed
        Seed of weights and training data.
    steps, looks
        Steps of the whole, and before them of the projector.
    threads
        Threads of torch.
    resume
        Continue from the checkpoint in `work`, if there is one.
    work
        Folder of the checkpoints; None is a folder in the cache.
    """

    out: Path | None = None
    seed: int = 0
    steps: int = STEPS
    looks: int = LOOKS
    threads: int = 1
    resume: bool = True
    work: Path | None = None

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the asset: ``trained.safetensors`` in bfloat16, and its card.

        Raises
        ------
        RunError
            A package with one of the other parts, or with the real clips, is missing; the message
            holds the command.
        """
        torch.set_num_threads(self.threads)
        out = self.out or BUNDLED / ASSET
        plan = Plan(self.seed, self.steps, self.looks)
        name = f"{ASSET}-{plan.seed}-{plan.looks}-{plan.steps}"
        work = self.work or cache_root() / "build" / name
        part, seconds = train(work, plan, resume=self.resume, say=say)
        say("scoring on validation and test videos")
        save(out, part, plan, seconds=seconds)
        return out


class Parts:
    """The packaged parts, and the model that they form with a trained part."""

    def __init__(self) -> None:
        self.language, self.vision = (
            packaged.convert(packaged.MODELS[name]) for name in (composed.LANGUAGE, composed.VISION)
        )
        self.tokenizer = composed.make_tokenizer(self.language)

    def model(self) -> Any:
        """Return the model before training."""
        return composed.make_model(self.language, self.vision, self.tokenizer)

    def adapter(self, part: Mapping[str, Tensor]) -> LlavaVideoAdapter:
        """Return the adapter of the model with this trained part, as it is used."""
        model = self.model()
        composed.merge(model, dict(part))
        return adapter_of(ASSET, model, self.tokenizer, composed.preprocessor(), answer_by="words")


def train(
    work: Path, plan: Plan, *, resume: bool, say: Callable[[str], None], judges: int = VALIDATION
) -> tuple[Weights, float]:
    """Train, or continue to train; return the part that was best on validation, and seconds.

    `judges` is the number of validation videos of each family.
    """
    run = _Run(work / CHECKPOINT, plan, say)
    run.begin(resume=resume)
    best = run.train_answers(judges)
    return best if best is not None else run.state["part"], run.state["seconds"]


class _Run:
    """A training, whose state is in a file."""

    def __init__(self, path: Path, plan: Plan, say: Callable[[str], None]) -> None:
        torch.manual_seed(plan.seed)
        self.path, self.plan, self.say = path, plan, say
        self.parts = Parts()
        self.model = self.parts.model()
        self.names = smollm2_training.Names(self.model, self.parts.tokenizer)
        self.projector, changes = smollm2_training.prepare(self.model)
        self.optimizer = smollm2_training.make_optimizer([*changes, *self.projector])
        self.state: dict[str, Any] = {"step": 0, "seconds": 0.0, "best": (-1.0, None)}
        self.begun = time.monotonic()

    def begin(self, *, resume: bool) -> None:
        """Take the trained part of the state, or train the projector."""
        if resume and self.path.is_file():
            self.state = state = torch.load(self.path, weights_only=True)
            smollm2_training.take(self.model, state["part"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.begun -= state["seconds"]
            self.say(f"resuming after step {state['step']} of {self.plan.steps}")
            return
        looks, seed = self.plan.looks, self.plan.seed
        optimizer = smollm2_training.make_optimizer(self.projector)
        phase = Phase(looks, seed, LOOK_PEAK, warm_up=20, floor=0.03)
        steps = smollm2_training.train_projector(self.model, self.names, optimizer, phase)
        for step, right in steps:
            if step % SAVED == 0 or step == looks:
                self.say(f"projector {step}/{looks}: {right:.0%} of the training frames right")

    def train_answers(self, judges: int) -> Weights | None:
        """Train all, and return the best part by validation."""
        plan, start = self.plan, self.state["step"]
        judge = Judge(self.parts.adapter, samples("validation", judges, FAMILIES))
        steps = smollm2_training.train_answers(
            self.model,
            self.names,
            self.optimizer,
            self.parts.tokenizer,
            Phase(plan.steps, plan.seed, PEAK, warm_up=50, floor=0.03, start=start),
            Questions(CLIPS, QUESTIONS),
        )

        def validate() -> Mapping[str, float]:
            return judge.accuracy(self._part())

        by = Supervision(SAVED, JUDGED, validate, self._part, self._save, self.say)
        return supervise(steps, plan.steps, self.state["best"], by)[1]

    def _part(self) -> Weights:
        found = smollm2_training.trained(self.model)
        return {name: value.clone() for name, value in found.items()}

    def _save(self, step: int, best: Best) -> None:
        state = self.state
        state.update(step=step, best=best, part=self._part())
        state.update(optimizer=self.optimizer.state_dict())
        state["seconds"] = time.monotonic() - self.begun
        save_state(state, self.path)


def save(
    out: Path,
    part: Mapping[str, Tensor],
    plan: Plan,
    *,
    seconds: float,
    each: int = REPORTED,
) -> None:
    """Write the asset and its card; the scores are those of the bfloat16 part that is saved.

    Families with a test accuracy of :data:`~research.builders.video.judging.COVERED` at least, on
    `each` test videos, are called covered.
    """
    kept = {name: value.to(torch.bfloat16).contiguous() for name, value in part.items()}
    parts = Parts()
    scores = {
        split: Judge(parts.adapter, samples(split, each, FAMILIES)).accuracy(kept)
        for split in ("validation", "test")
    }
    composed.save_trained(out, kept, parts.model().config)
    write_card(
        out,
        made_by="namm-mm build smollm2-video",
        about="LlavaNextVideo of SmolLM2-135M and DINOv2-small, trained on generated videos",
        licence="Apache-2.0",
        model_class="LlavaNextVideoForConditionalGeneration",
        parts={name: packaged.MODELS[name].sha256 for name in (composed.LANGUAGE, composed.VISION)},
        parameters_trained=sum(value.numel() for value in kept.values()),
        what_is_trained="the projector, and changes of rank 16 to the attention's matrices; vision "
        "tower, embeddings and all else of the language model are as packaged",
        data={
            "source": "namm_mm.tasks.video_qa: rendered while training, split train",
            **judging.covered(scores["test"], FAMILIES),
            "clips": plan.steps * CLIPS,
            "questions": plan.steps * CLIPS * QUESTIONS,
        },
        training={
            "seed": plan.seed,
            "projector_steps": plan.looks,
            "steps": plan.steps,
            "seconds": round(seconds),
            "selected_on": f"{VALIDATION} validation videos of each family",
        },
        answer_by="words",
        **judging.score_facts(scores, each),
        reads="32 frames of 56 x 56 pixels, 4 tokens each",
        sha256_trained=sha256(out / composed.TRAINED),
        versions=judging.versions(),
    )
