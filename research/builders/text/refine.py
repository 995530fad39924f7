"""``namm-mm build refine``: refine a NAMM on text by gradients through the frozen model.

The paper evolves NAMMs; this is another way. The folder holds the whole state after every step: a
build that was interrupted continues, with the result that it would have had.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from namm_mm.commands.build import Builder
from namm_mm.errors import UsageError, message
from namm_mm.execution.settings import ExecutionSettings
from namm_mm.execution.start import start as start_execution
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.registry.reader import Choice
from namm_mm.tasks.long_text.task import LongTextTask
from research.builders.text.smollm2 import NAME as MODEL
from research.gradients.answer_gradients import make_evaluators
from research.gradients.mixed_task import MixedTask
from research.gradients.refinement import Refinement
from research.gradients.refinement_settings import RENAMED, RefinementSettings
from research.gradients.refinement_state import RefinementState

if TYPE_CHECKING:
    from namm_mm.execution.base import Result

FAMILIES = ("passkey", "key_value_hint", "passage", "cloze", "code", "repeats")
NAME, LOG = "refined.safetensors", "steps.jsonl"


@dataclass(frozen=True)
class BuildRefine(Builder):
    """Refines a NAMM.

    Attributes
    ----------
    out
        Folder that gets ``refined.safetensors`` with its card, the state, and a line for every
        step.
    start
        The NAMM to refine: the name of a bundled one, or a file.
    words, families
        Of the prompts of the long-text task; each has one of the lengths.
    objective, text_weight, steps, batch_size, learning_rate, equal_sizes, probed_sizes, intervals
        See :class:`~research.gradients.refinement_settings.RefinementSettings`.
    fractions, validate_every, validation_prompts, validation_fractions, seed
        See there, too.
    workers
        Processes with a model each; more than one needs Ray. The results do not depend on it.
    minutes
        Stop after the step in which so many minutes have passed; the same command continues.
    model, dtype, device
        The language model, or several that read the prompts in turn, and where they run.
    """

    out: Path
    start: str = "evolved"
    words: int | Sequence[int] = (100, 200, 300)
    families: Sequence[str] = FAMILIES
    objective: str = "full"
    text_weight: float = 0.0
    steps: int = 120
    batch_size: int = 12
    learning_rate: float = 1e-3
    equal_sizes: float = 0.5
    probed_sizes: float = 0.0
    fractions: Sequence[float] = (0.08, 0.6)
    intervals: int | Sequence[int] = (64, 96, 128)
    validate_every: int = 20
    validation_prompts: int = 24
    validation_fractions: Sequence[float] = (0.15, 0.35)
    seed: int = 0
    workers: int = 1
    minutes: float | None = None
    model: str | Sequence[str] = MODEL
    dtype: str = "bfloat16"
    device: str = "cpu"

    renamed: ClassVar[Mapping[str, str]] = {
        name: RENAMED[name] for name in ("everywhere", "batch", "rate", "even", "check")
    }

    def build(self, say: Callable[[str], None] = print) -> Path:
        """Return the best NAMM by validation so far; `namm-mm build threshold` sets its size."""
        namm, tasks, settings = self._checked()
        task = MixedTask(tasks)
        self.out.mkdir(parents=True, exist_ok=True)
        execution = ExecutionSettings("ray", self.workers) if self.workers > 1 else None
        models = _names(self.model)
        choices = [
            Choice("text", {"model": name, "dtype": self.dtype, "device": self.device})
            for name in dict.fromkeys(models)
        ]
        factory = functools.partial(
            make_evaluators, choices, namm, self.objective, self.text_weight
        )
        with closing(
            start_execution(execution or ExecutionSettings(), factory, _InMemory())
        ) as engine:
            model = f"{' '.join(models)}, {self.dtype}"
            run = Refinement(namm, task, settings, engine, self.out, model)
            vector = run.run(functools.partial(self._log, say), self.minutes)
        card = self._card(run.state, tasks[0].families, task.fingerprint())
        return save(replace(namm, parameters=vector, card=card), self.out / NAME)

    def _checked(self) -> tuple[Namm, tuple[LongTextTask, ...], RefinementSettings]:
        """Return the start, a task for each length, and the settings; nothing is written before."""
        namm = Namm.from_pretrained(self.start)
        if namm.scorer != "bam":
            given = f"a NAMM of kind {namm.scorer!r}"
            raise UsageError(message("nothing to refine", given=given, expected="a bam"))
        intervals = _several(self.intervals)
        for interval in intervals:
            namm.spectrogram.check_interval(interval)
        lengths, models = _several(self.words), _names(self.model)
        if not lengths:
            raise UsageError(
                message("wrong words", given=self.words, expected="one length or more")
            )
        tasks = tuple(LongTextTask(families=self.families, words=length) for length in lengths)
        settings = RefinementSettings(
            objective=self.objective,
            text_weight=self.text_weight,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            equal_sizes=self.equal_sizes,
            probed_sizes=self.probed_sizes,
            models=tuple(tuple(dict.fromkeys(models)).index(name) for name in models),
            fractions=(min(self.fractions), max(self.fractions)),
            intervals=intervals,
            validate_every=self.validate_every,
            validation_prompts=self.validation_prompts,
            validation_fractions=tuple(self.validation_fractions),
            seed=self.seed,
        )
        if self.workers < 1:
            raise UsageError(message("wrong workers", given=self.workers, expected="1 or more"))
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(
                message("not a folder", given=str(self.out), expected="a folder, or a new name")
            )
        return namm, tasks, settings

    def _log(self, say: Callable[[str], None], facts: dict[str, Any]) -> None:
        rounded = {key: round(value, 4) for key, value in facts.items()}
        with (self.out / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(rounded) + "\n")
        say(", ".join(f"{key} {value:g}" for key, value in rounded.items()))

    def _card(
        self, state: RefinementState, families: Sequence[str], fingerprint: str
    ) -> dict[str, Any]:
        """Return the card of the result."""
        lengths = _several(self.words)
        fractions = " and ".join(f"{part:.2f}".lstrip("0") for part in self.validation_fractions)
        return {
            "about": f"refined on text: {state.best_step} steps of gradient descent through "
            f"{' and '.join(dict.fromkeys(_names(self.model)))}, from {Path(self.start).stem}",
            "evolved": False,
            "made_by": f"namm-mm build refine start={self.start} objective={self.objective} "
            f"text_weight={self.text_weight:g} steps={self.steps} batch_size={self.batch_size} "
            f"learning_rate={self.learning_rate:g} equal_sizes={self.equal_sizes:g} "
            f"words={_listed(lengths)} intervals={_listed(_several(self.intervals))} "
            f"families={_listed(families)} "
            f"{self._since_probes()}seed={self.seed}",
            "licence": "Apache-2.0",
            "storage": "per_head",
            "training": f"{state.best_step * self.batch_size} training prompts of long_text: "
            f"{', '.join(families)} ({' or '.join(map(str, lengths))} words, fingerprint "
            f"{fingerprint}), {self.dtype}, {self.device}",
            "scores": {
                "validation prompts": self.validation_prompts,
                f"{self.objective}: nats to the full cache, fractions {fractions}": round(
                    state.best_value, 4
                ),
                "the same of the start": round(state.start_value, 4),
            },
        }

    def _since_probes(self) -> str:
        """Return the options that earlier builds did not have, where they are set."""
        default, set_here = BuildRefine(self.out), []
        for name in ("probed_sizes", "fractions", "validation_fractions", "model"):
            value = getattr(self, name)
            if value != getattr(default, name):
                several = not isinstance(value, (str, float, int))
                set_here.append(f"{name}={_listed(value) if several else value} ")
        return "".join(set_here)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _several(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)


def _listed(values: Sequence[object]) -> str:
    return f"[{','.join(map(str, values))}]"


class _InMemory:
    """A journal for one process: an interrupted step is evaluated again."""

    def __init__(self) -> None:
        self._known: dict[str, Result] = {}

    def get(self, key: str) -> Result | None:
        """Return the result of a finished evaluation; None for any other."""
        return self._known.get(key)

    def put(self, key: str, result: Result) -> None:
        """Keep a result."""
        self._known[key] = result
