"""``namm-mm build smollm2-speech``: train the projector between Whisper's encoder and SmolLM2.

Both models are frozen. Checkpoints are compared on validation talks. The projector of the best one
is written, with a card; :mod:`namm_mm.models.composed` puts the three together for
``adapter=speech adapter.model=FOLDER``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from namm_mm.adapters.common.loading import cpu_has_bfloat16
from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.models import fetched, packaged
from namm_mm.models.cache import cache_root
from namm_mm.models.cards import BUNDLED, write_card
from namm_mm.models.composed import TRAINED
from namm_mm.models.composed_speech import (
    LANGUAGE,
    MODEL_CLASS,
    WHISPER,
    make_model,
    make_processor,
)
from namm_mm.tasks.base import names
from namm_mm.tasks.speech_qa.questions import FAMILIES
from research.builders.speech.talks import Heard, Talks, listen, shortened
from research.builders.speech.training import Reader, start, steps
from research.builders.video.judging import COVERED
from research.builders.video.optimizing import (
    Best,
    Phase,
    Supervision,
    Weights,
    in_words,
    save_state,
    supervise,
)

NAME = "smollm2_speech"
PEAK = 2e-3
SAVED = 10


@dataclass(frozen=True)
class BuildSmolLM2Speech(Builder):
    """Trains, selects and saves the composed model.

    Attributes
    ----------
    out
        Folder of the asset; None is the bundled one, which is replaced.
    families
        Families of questions to train on.
    selected_by
        Families on whose validation talks the checkpoint is chosen; those of `families` if None.
    words
        ``known`` trains and validates on the same 48 words, ``apart`` on different ones.
    talks, validation
        Talks of each family for training, and for the choice of the checkpoint.
    needles, validation_needles
        The same of the family ``needle``, whose talks are four times as long.
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

    out: Path | None = None
    families: str | tuple[str, ...] = ("word", "needle")
    selected_by: str | tuple[str, ...] | None = ("word",)
    words: str = "known"
    talks: int = 160
    validation: int = 24
    needles: int = 24
    validation_needles: int = 8
    steps: int = 90
    batch: int = 4
    validate_every: int = 30
    seed: int = 0
    resume: bool = True
    work: Path | None = None
    language: Path | None = None
    whisper: Path | None = None

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the asset: ``trained.safetensors`` in float16, and its card.

        Raises
        ------
        UsageError
            A family is not known.
        RunError
            Whisper was not fetched, a package is missing, or espeak-ng is not installed; the
            message holds the command.
        """
        wanted = names(self.families)
        for family in (*wanted, *self.chosen):
            if family not in FAMILIES:
                raise UsageError(
                    message("unknown family", given=family, expected="a known one", valid=FAMILIES)
                )
        whisper = self.whisper or fetched.located(fetched.MODELS[WHISPER])
        language = self.language or packaged.convert(packaged.MODELS[LANGUAGE])
        processor = make_processor(language, whisper)
        model = make_model(language, whisper, processor)
        if not cpu_has_bfloat16():
            model.float()
        run = _Run(self, model, processor, say)
        run.train()
        out = self.out or BUNDLED / NAME
        out.mkdir(parents=True, exist_ok=True)
        part = {
            f"projector.{name}": value.to(torch.float16).contiguous()
            for name, value in run.best().items()
        }
        save_file(part, out / TRAINED)
        model.config.save_pretrained(out)
        self._tell(out, run.state, wanted)
        return out

    @property
    def state(self) -> Path:
        """The file of the state."""
        name = f"{NAME}-{self.seed}-{self.words}-{self.talks}-{self.steps}"
        return (self.work or cache_root() / "build" / name) / "training.pt"

    @property
    def chosen(self) -> tuple[str, ...]:
        """The families on whose validation talks the checkpoint is chosen."""
        return names(self.families if self.selected_by is None else self.selected_by)

    def counts(self, split: str) -> dict[str, int]:
        """Return how many talks of each family a split has."""
        short, long = {
            "train": (self.talks, self.needles),
            "validation": (self.validation, self.validation_needles),
        }[split]
        return {name: long if name == "needle" else short for name in names(self.families)}

    def _tell(self, out: Path, state: dict[str, Any], families: tuple[str, ...]) -> None:
        curve = state["curve"]
        best = max(reversed(curve), key=lambda point: sum(point[name] for name in self.chosen))
        write_card(
            out,
            made_by="namm-mm build smollm2-speech",
            about="Qwen2-Audio of SmolLM2-135M and Whisper tiny.en, trained on spoken words",
            licence="Apache-2.0 (SmolLM2), MIT (Whisper)",
            model_class=MODEL_CLASS,
            parts={
                LANGUAGE: packaged.MODELS[LANGUAGE].sha256,
                WHISPER: fetched.MODELS[WHISPER].sha256,
            },
            what_is_trained="the linear projector; language model and encoder are as they were",
            answer_by="words",
            data={
                "source": "namm_mm.tasks.speech_qa: spoken by espeak-ng, split train",
                "families": [name for name in families if best[name] >= COVERED],
                "not_learned": [name for name in families if best[name] < COVERED],
                "not_trained": [family for family in FAMILIES if family not in families],
                "words": self.words,
                "talks": self.counts("train"),
            },
            training={"seed": self.seed, "steps": self.steps, "batch": self.batch},
            validation_accuracy={name: best[name] for name in families},
            validation_talks=self.counts("validation"),
            validation_curve=curve,
            chance=0.25,
        )


class _Run:
    """A training, whose state is in a file."""

    def __init__(
        self,
        plan: BuildSmolLM2Speech,
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
        said = ", ".join(f"{count} of {name}" for name, count in plan.counts("train").items())
        say(f"speaking talks: {said}")
        kept = plan.state.with_name("talks.pt")
        self.train_talks, self.validation = (
            listen(model, processor, Talks(split, plan.counts(split), plan.words), kept)
            for split in ("train", "validation")
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

    def train(self) -> None:
        """Train to the last step."""
        plan, by_family = self.plan, dict[str, list[Heard]]()
        for talk in self.train_talks:
            short = shortened(talk) if talk.family == "needle" else talk
            by_family.setdefault(talk.family, []).append(short)
        phase = Phase(plan.steps, plan.seed, PEAK, warm_up=10, floor=0.05, start=self.state["step"])
        taken = steps(self.reader, self.optimizer, by_family, plan.batch, phase)
        by = Supervision(
            SAVED, plan.validate_every, self._validate, self._weights, self._save, self.say
        )
        self.state["best"] = supervise(taken, plan.steps, self.state["best"], by)

    def best(self) -> Weights:
        """Return the projector that was best on validation; the last one without a validation."""
        weights: Weights | None = self.state["best"][1]
        return self._weights() if weights is None else weights

    def _validate(self) -> dict[str, float]:
        found = self.reader.right(self.validation)
        rounded = {name: round(value, 4) for name, value in found.items()}
        seconds = round(time.process_time() - self.begun)
        self.state["curve"].append({"cpu_seconds": seconds, **rounded})
        return {name: found[name] for name in self.plan.chosen}

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
