"""``namm-mm build warm-start``: fit a NAMM to an oracle, as the start of an evolution.

It records training prompts of the long-text task with SmolLM2 and the full cache, fits, records
what the fitted NAMM observes while it evicts, and fits again. The recordings with the full cache
stay in the folder: a build that was interrupted continues.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safetensors.torch import load_file, save_file

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.evolution.prompts import Prompts, Tokenized
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.tasks.long_text.task import DEFAULT, LongTextTask
from research.builders.text.smollm2 import NAME as MODEL
from research.gradients.aggregation import examples_under_eviction
from research.gradients.answer_tokens import near_answer, with_sinks_and_recents
from research.gradients.examples import Example, record, restricted
from research.gradients.imitation import FitSettings, fit, importance_kept

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt
    from namm_mm.namm import Namm

HELD_OUT = 6  # one prompt in so many is not fitted: half of them choose the best, half test it
FRACTION = 0.35  # of the tokens, in the comparison
ORACLES = ("answer", "gradient")


@dataclass(frozen=True)
class BuildWarmStart(Builder):
    """Makes a warm start.

    Attributes
    ----------
    out
        Folder that gets ``warm_start.safetensors`` with its card, and the recordings.
    start
        The NAMM whose statistics, spectrogram and final layer the fit begins with.
    prompts, words
        Recorded training prompts, and their length.
    families
        Families of the long-text task; None takes its default.
    steps
        Steps of each fit.
    rounds
        How often the fitted NAMM is recorded while it evicts, and fitted again.
    oracle
        ``answer``: the importance of tokens near an occurrence of the answer; ``gradient``: the
        importance of all tokens.
    fraction
        Fraction of the tokens that the threshold keeps, with storage per head.
    learning_rate
        The highest learning rate of a fit.
    seed
        Seed of prompts and fit.
    model
        The language model.
    """

    out: Path
    start: str = "provisional"
    prompts: int = 110
    words: int = 300
    families: Sequence[str] | None = None
    steps: int = 350
    rounds: int = 0
    oracle: str = "answer"
    fraction: float = 0.45
    learning_rate: float = 1.5e-3
    seed: int = 0
    model: str = MODEL

    renamed: ClassVar[Mapping[str, str]] = {"size": "fraction", "rate": "learning_rate"}

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the NAMM, for ``namm-mm evolve start.checkpoint=...``."""
        if self.oracle not in ORACLES:
            raise UsageError(
                message("unknown oracle", given=self.oracle, expected="an oracle", valid=ORACLES)
            )
        namm = Namm.from_pretrained(self.start)
        adapter = TextAdapter(model=self.model)
        adapter.load()
        model = adapter.backbone
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        families = DEFAULT if self.families is None else self.families
        task = LongTextTask(families=families, words=self.words)
        found = Prompts(Tokenized(adapter), task.samples("train", self.prompts, self.seed)).all()
        groups = self._record(adapter, found, namm, say)
        held_out = groups[::HELD_OUT]
        validation, test = ([one for group in half for one in group] for half in _halves(held_out))
        fitted_on = [number for number in range(len(groups)) if number % HELD_OUT]
        train = [one for number in fitted_on for one in groups[number]]
        before = importance_kept(namm, test, FRACTION)
        say(f"importance kept by {FRACTION:.0%} of the tokens at the start: {before:.3f}")
        fitted = namm
        for number in range(1 + self.rounds):
            if number:
                say(f"round {number} of {self.rounds}: recording the fitted NAMM under eviction")
                for index in fitted_on:
                    train += examples_under_eviction(model, found[index], fitted, groups[index])
            fitted = self._fit(fitted, number, (train, validation), say)
            kept = importance_kept(fitted, test, FRACTION)
            say(f"importance kept by {FRACTION:.0%} of the tokens: {kept:.3f}")
        card = self._card(task, importance_kept(fitted, test, FRACTION), before)
        return save(replace(fitted, card=card), self.out / "warm_start.safetensors")

    def _record(
        self,
        adapter: TextAdapter,
        prompts: Sequence[Prompt],
        namm: Namm,
        say: Callable[[str], None],
    ) -> list[list[Example]]:
        """Return the examples of each prompt, with the importance of the oracle."""
        groups = []
        for number, prompt in enumerate(prompts):
            examples = _recorded(adapter.backbone, prompt, namm, self.out)
            if self.oracle == "answer":
                examples = _near_answer(adapter.tokenizer, prompt, examples)
            groups.append(examples)
            if number % 10 == 9:
                say(f"recorded {number + 1} of {len(prompts)} prompts")
        return groups

    def _fit(
        self,
        start: Namm,
        number: int,
        examples: tuple[list[Example], list[Example]],
        say: Callable[[str], None],
    ) -> Namm:
        """Return `start` with fitted parameters; `examples` are for training and validation."""

        def on_step(step: int, kept: float) -> None:
            if step % 100 == 0:
                say(f"step {step} of {self.steps}: importance kept {kept:.3f}")

        settings = FitSettings(self.steps, self.fraction, self.learning_rate, self.seed + number)
        return replace(start, parameters=fit(start, *examples, settings, on_step=on_step))

    def _card(self, task: LongTextTask, kept: float, before: float) -> dict[str, Any]:
        return {
            "about": "fitted by gradients to an oracle's importance on text, from "
            f"{self.start}; a start",
            "evolved": False,
            "made_by": f"namm-mm build warm-start start={self.start}",
            "oracle": self.oracle,
            "storage": "per_head",
            "training": f"{self.model}, {self.prompts} training prompts of long_text: "
            f"{', '.join(task.families)} (fingerprint {task.fingerprint()}), {1 + self.rounds} "
            f"fits of {self.steps} steps, seed {self.seed}",
            "licence": "Apache-2.0",
            "scores": {
                f"importance kept by {FRACTION:.0%} of the tokens, held-out prompts": round(
                    kept, 4
                ),
                "the same of the start": round(before, 4),
            },
        }


def _halves(
    groups: Sequence[list[Example]],
) -> tuple[Sequence[list[Example]], Sequence[list[Example]]]:
    """Return every other group, and the rest; of a single one both are that one."""
    return groups[::2], groups[1::2] or groups


def _near_answer(tokenizer: Any, prompt: Prompt, examples: Sequence[Example]) -> list[Example]:
    """Restrict the importance to tokens near the answer.

    Updates before the answer was read, or during the answer itself, are left out.
    """
    mask = near_answer(tokenizer, prompt)
    return [
        restricted(example, with_sinks_and_recents(mask, example.seen))
        for example in examples
        if example.seen <= len(mask) and bool(mask[: example.seen].any())
    ]


def _recorded(model: Any, prompt: Prompt, namm: Namm, folder: Path) -> list[Example]:
    """Record a prompt, or read an earlier recording."""
    folder.mkdir(parents=True, exist_ok=True)
    content = repr((prompt.digest, namm.spectrogram, namm.interval)).encode()
    name = f"{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    path, earlier = folder / f"examples-{name}", folder / f"shown-{name}"
    if earlier.exists():  # recorded by an earlier version
        path = earlier
    if not path.exists():
        parts = {}
        for update, example in enumerate(record(model, prompt, namm.spectrogram, namm.interval)):
            parts[f"spectrum.{update}"] = example.spectrum.contiguous()
            parts[f"importance.{update}"] = example.importance.contiguous()
        save_file(parts, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    tensors = load_file(path)
    return [
        Example(tensors[f"spectrum.{update}"], tensors[f"importance.{update}"])
        for update in range(len(tensors) // 2)
    ]
