"""``namm-mm build smollm2-speech``: train the projector between Whisper's encoder and SmolLM2.

Both models are frozen. Checkpoints are compared on validation talks, and the best one is written as
a whole model in hub layout: ``adapter=speech adapter.model=FOLDER``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.models import fetched, packaged
from namm_mm.models.cache import cache_root
from namm_mm.models.cards import write_card
from namm_mm.tasks.base import names
from namm_mm.tasks.speech_qa.questions import FAMILIES
from research.builders.speech.composing import make_model, make_processor
from research.builders.speech.talks import Heard, listen
from research.builders.speech.training import Reader, start, steps
from research.builders.video.optimizing import (
    Best,
    Phase,
    Supervision,
    in_words,
    save_state,
    supervise,
)

LANGUAGE, WHISPER = "smollm2-135m-instruct", "whisper-tiny-en"
NAME = "smollm2_speech"
PEAK = 2e-3
SAVED = 10


@dataclass(frozen=True)
class BuildSmolLM2Speech(Builder):
    """Trains, selects and saves the composed model.

    Attributes
    ----------
    out
        Folder of the model.
    families
        Families of questions to train on.
    words
        ``known`` trains and validates on the same 48 words, ``apart`` on different ones.
    talks, validation
        Talks of each family for training, and for the choice of the checkpoint.
    steps, batch
        Steps of the training, and talks of each.
    validate_every
        Steps between two validations.
    seed
        Seed of the batches.
    resume
        Continue from the state in `work`, if there is one.
    work
        Folder of the state; None is a folder in the cache.
    language, whisper
        Folders of the parts; None are SmolLM2-135M-Instruct and Whisper tiny.en.
    """

    out: Path
    families: str | tuple[str, ...] = ("word", "needle")
    words: str = "known"
    talks: int = 300
    validation: int = 24
    steps: int = 600
    batch: int = 6
    validate_every: int = 100
    seed: int = 0
    resume: bool = True
    work: Path | None = None
    language: Path | None = None
    whisper: Path | None = None

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the folder of the model.

        Raises
        ------
        UsageError
            A family is not known.
        RunError
            Whisper was not fetched, a package is missing, or espeak-ng is not installed; the
            message holds the command.
        """
        wanted = names(self.families)
        for family in wanted:
            if family not in FAMILIES:
                raise UsageError(
                    message("unknown family", given=family, expected="a known one", valid=FAMILIES)
                )
        whisper = self.whisper or fetched.located(fetched.MODELS[WHISPER])
        language = self.language or packaged.convert(packaged.MODELS[LANGUAGE])
        processor = make_processor(language, whisper)
        model = make_model(language, whisper, processor)
        run = _Run(self, wanted, model, processor, say)
        accuracy, curve = run.train()
        self._save(model, processor, accuracy, curve, wanted)
        return self.out

    @property
    def state(self) -> Path:
        """The file of the state."""
        name = f"{NAME}-{self.seed}-{self.words}-{self.talks}-{self.steps}"
        return (self.work or cache_root() / "build" / name) / "training.pt"

    def _save(
        self,
        model: Any,
        processor: Any,
        accuracy: float,
        curve: list[dict[str, Any]],
        families: tuple[str, ...],
    ) -> None:
        model.to(torch.bfloat16).save_pretrained(self.out)
        processor.save_pretrained(self.out)
        write_card(
            self.out,
            made_by=f"namm-mm build smollm2-speech out={self.out.name}",
            about="Qwen2-Audio of SmolLM2-135M and Whisper tiny.en, trained on spoken words",
            licence="Apache-2.0 (SmolLM2), MIT (Whisper)",
            what_is_trained="the linear projector; language model and encoder are as they were",
            answer_by="words",
            families=list(families),
            words=self.words,
            talks=self.talks * len(families),
            steps=self.steps,
            seed=self.seed,
            validation_accuracy=round(accuracy, 4),
            validation_curve=curve,
        )


class _Run:
    """A training, whose state is in a file."""

    def __init__(
        self,
        plan: BuildSmolLM2Speech,
        families: tuple[str, ...],
        model: Any,
        processor: Any,
        say: Callable[[str], None],
    ) -> None:
        self.plan, self.say = plan, say
        model.requires_grad_(False)
        self.reader = Reader(model, processor)
        self.reader.projector.float().requires_grad_(True)
        self.optimizer = torch.optim.Adam(self.reader.projector.parameters())
        self.begun = time.process_time()
        say(f"speaking {plan.talks} talks of {', '.join(families)}")
        self.train_talks, self.validation = (
            listen(model, processor, split, families, count, plan.words)
            for split, count in (("train", plan.talks), ("validation", plan.validation))
        )
        self.state: dict[str, Any] = {"step": 0, "best": (-1.0, None), "curve": []}
        if plan.resume and plan.state.is_file():
            self.state = torch.load(plan.state, weights_only=True)
            self.reader.projector.load_state_dict(self.state["projector"])
            self.optimizer.load_state_dict(self.state["optimizer"])
            self.begun -= self.state["seconds"]
            say(f"resuming after step {self.state['step']} of {plan.steps}")
        else:
            start(self.reader, self.train_talks)
            say(f"before the first step: {in_words(self._validate())}")

    def train(self) -> tuple[float, list[dict[str, Any]]]:
        """Train, leave the best projector in the model, and return its accuracy and the curve."""
        plan, by_family = self.plan, dict[str, list[Heard]]()
        for talk in self.train_talks:
            by_family.setdefault(talk.family, []).append(talk)
        phase = Phase(plan.steps, plan.seed, PEAK, warm_up=20, floor=0.05, start=self.state["step"])
        taken = steps(self.reader, self.optimizer, by_family, plan.batch, phase)
        by = Supervision(
            SAVED, plan.validate_every, self._validate, self._weights, self._save, self.say
        )
        accuracy, weights = supervise(taken, plan.steps, self.state["best"], by)
        if weights is not None:
            self.reader.projector.load_state_dict(weights)
        return accuracy, self.state["curve"]

    def _validate(self) -> dict[str, float]:
        found = self.reader.right(self.validation)
        rounded = {name: round(value, 4) for name, value in found.items()}
        seconds = round(time.process_time() - self.begun)
        self.state["curve"].append({"cpu_seconds": seconds, **rounded})
        return found

    def _weights(self) -> dict[str, torch.Tensor]:
        return {k: v.detach().clone() for k, v in self.reader.projector.state_dict().items()}

    def _save(self, step: int, best: Best) -> None:
        self.state.update(
            step=step,
            best=best,
            projector=self._weights(),
            optimizer=self.optimizer.state_dict(),
            seconds=time.process_time() - self.begun,
        )
        save_state(self.state, self.plan.state)
