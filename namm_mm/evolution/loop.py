"""Evolve a NAMM: ask, evaluate, tell, and now and then try the mean on prompts that never change.

::

    outcome = run(stages.from_mapping({...}))
    outcome.namm        # the best mean by validation, ready for `checkpoint=`
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm import execution
from namm_mm.evolution.bench import Evaluator, make_evaluator
from namm_mm.evolution.card import evolved_card
from namm_mm.evolution.claim import claim
from namm_mm.evolution.search import SearchSpace
from namm_mm.evolution.stage_run import Measured, StageRun
from namm_mm.evolution.stages import EvolutionSettings, StageSettings
from namm_mm.evolution.start import make_start
from namm_mm.evolution.state import STATE, Position, State, trim
from namm_mm.execution.progress import Progress, Silent
from namm_mm.namm import Namm
from namm_mm.namm import load as load_namm
from namm_mm.namm.checkpoint import save as save_namm
from namm_mm.runs import Journal, RunInfo, Tracker, provenance
from namm_mm.tracking import open_run

START, BEST = "start.safetensors", "best.safetensors"
STATE_EVERY = 100  # generations between two copies of the whole state among the artifacts
JOURNAL, GENERATIONS, VALIDATIONS = "evaluations.jsonl", "generations.jsonl", "validations.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes
    ----------
    folder
        The run folder.
    namm
        The best mean of the last stage by validation, as a NAMM file.
    position
        How far the run is.
    finished
        Whether all generations are done; else the same settings go on with it.
    places
        Where to look, in words.
    """

    folder: Path
    namm: Path
    position: Position
    finished: bool
    places: Mapping[str, str]


def run(
    settings: EvolutionSettings,
    folder: Path,
    *,
    progress: Progress | None = None,
    anyway: bool = False,
) -> Outcome:
    """Run all stages, or go on with the run that is in `folder`.

    Parameters
    ----------
    settings
        Checked settings, from :func:`namm_mm.evolution.reading.from_mapping`.
    folder
        The run folder.
    progress
        Is told how it goes.
    anyway
        Go on although the settings are not those that the run was started with.

    Raises
    ------
    UsageError
        The run in the folder has other settings, or a task has too few prompts.
    RunError
        The model cannot be loaded, or the disk is full. The state before is kept.
    """
    progress = progress or Silent()
    claim(folder, settings, anyway=anyway, progress=progress)
    origin = provenance.collect(settings.config_hash, _device(settings))
    info = RunInfo(
        experiment=settings.name,
        job_type="train",
        config=settings.as_mapping(),
        provenance=origin,
        tags=(f"adapter:{settings.adapter.name}", "policy:namm"),
    )
    with (
        open_run(folder, info, wandb_mode=settings.wandb) as tracker,
        closing(Journal(folder / JOURNAL)) as journal,
        closing(_Evolution(settings, folder, progress, tracker, journal)) as evolution,
    ):
        finished = evolution.run()
        place, position = folder / BEST, evolution.state.position
        evolution.keep_best()  # once more: now its card knows how long the search went on
        if finished:
            evolution.keep_state()
        summary = {"best": position.best_fitness, "start": position.start_fitness}
        tracker.finish("ok", {**summary, "generations": position.total, "finished": finished})
        places = dict(tracker.places)
    return Outcome(folder, place, position, finished, places)


def _device(settings: EvolutionSettings) -> str:
    asked = str(settings.adapter.options.get("device", "auto"))
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


class _Evolution:
    """A run: its state on disk, and the stage that goes on."""

    def __init__(
        self,
        settings: EvolutionSettings,
        folder: Path,
        progress: Progress,
        tracker: Tracker,
        journal: Journal,
    ) -> None:
        from namm_mm.adapters import ADAPTERS
        from namm_mm.registry.registry import build

        self.settings, self.folder = settings, folder
        self.progress, self.tracker = progress, tracker
        self.began = time.monotonic()
        self.adapter = build(ADAPTERS, settings.adapter.name, settings.adapter.options)
        progress.say(f"loading {self.adapter.model_name}")
        self.adapter.load()
        self.state = State.load(folder) or State(Position(), {})
        self.before = self.state.position.seconds
        position = self.state.position
        trim(folder / GENERATIONS, position.total)
        trim(folder / VALIDATIONS, position.total + (position.validated == position.generation))
        self.start = self._start()
        self.evaluator = Evaluator(self.adapter, settings.stages, self.start)
        self.execution = execution.start(
            settings.execution,
            partial(make_evaluator, settings.adapter, settings.stages, self.start),
            journal,
            here=self.evaluator,
            progress=progress,
        )
        self.write_best()  # a file that a kill left half written is made again

    def close(self) -> None:
        """Let go of the workers."""
        self.execution.close()

    def run(self) -> bool:
        """Run what is left; return whether all is done."""
        stages = self.settings.stages
        while True:
            index = self.state.position.stage
            done = self._run_stage(stages[index], index)
            if not done or index + 1 == len(stages):
                return done
            self._next_stage(stages[index], stages[index + 1], index + 1)

    def _run_stage(self, stage: StageSettings, index: int) -> bool:
        self.stage = stage
        self.at_work = self._stage_run(index)
        self.space = self._space(index, self.start.parameters)
        self.strategy = self.at_work.strategy(len(self.space.index), self.settings.seed + index)
        if self.state.strategy:
            self.strategy.load(self.state.strategy)
        left = stage.generations - self.state.position.generation
        self.progress.begin(stage.name, left, "generations")
        while True:
            here = self.state.position
            last = here.generation >= stage.generations
            if here.validated != here.generation and (
                last or here.generation % stage.validate_every == 0
            ):
                self._validate()
            if last:
                return True
            self._generation()
            self.progress.advance()
            if self.state.position.total % STATE_EVERY == 0:
                self.keep_state()
            if self._out_of_time():
                done = self.state.position.total
                self.progress.say(f"stopped after {done} generations: time is over")
                return False

    def _generation(self) -> None:
        began = time.monotonic()
        number = self.state.position.generation
        points = self.strategy.ask()
        batch = self.at_work.draw(number)

        def on_done(count: int) -> None:
            self.progress.detail(f"generation {number + 1}, prompt {count} of {len(batch)}")

        measured = self.at_work.evaluate(batch, self.space.vectors(points), on_done)
        self.strategy.tell(measured.fitness)
        self._note(measured, time.monotonic() - began)
        position = self.state.position
        recent = self._recent()
        self.state = State(position, self.strategy.state(), self.state.best, recent).at(
            generation=number + 1, total=position.total + 1, seconds=self._seconds()
        )
        self.state.save(self.folder)

    def _recent(self) -> Tensor | None:
        """The last means, with this one, as many as are averaged."""
        if not self.stage.average:
            return None
        mean = self.strategy.mean[None].clone()
        before = self.state.recent
        return mean if before is None else torch.cat([before, mean])[-self.stage.average :]

    def _note(self, measured: Measured, seconds: float) -> None:
        values = measured.fitness
        kept = measured.outcomes.kept_by_layer
        note: dict[str, Any] = {
            "fitness/best": float(values.max()),
            "fitness/mean": float(values.mean()),
            "fitness/std": float(values.std()),
            "search/sigma": self.strategy.sigma,
            "search/condition": self.strategy.condition,
            "kept/mean": float(kept.mean()),
            "seconds": round(seconds, 2),
            "tokens_per_second": round(measured.tokens / max(measured.seconds, 1e-9), 1),
        }
        total = self.state.position.total
        by_layer = kept.mean(0).tolist()
        line = {**note, "kept/by_layer": [round(part, 4) for part in by_layer]}
        self._line(GENERATIONS, {"generation": total, "stage": self.stage.name, **line})
        curves = {f"kept/layer_{index:02d}": part for index, part in enumerate(by_layer)}
        self.tracker.log({**note, **curves}, axis="gen", at=total)

    def _validate(self) -> None:
        """Try the mean, and that of the last means, on the fixed prompts; keep what is best."""
        position, recent = self.state.position, self.state.recent
        points = [self.strategy.mean]
        if recent is not None and len(recent) > 1:
            points.append(recent.mean(0))
        vectors = self.space.vectors(torch.stack(points))
        batch = self.at_work.fixed.all()

        def on_done(count: int) -> None:
            self.progress.detail(f"validation, prompt {count} of {len(batch)}")

        measured = self.at_work.evaluate(batch, vectors, on_done)
        which = int(measured.fitness.argmax())
        value, kept = float(measured.fitness[which]), float(measured.outcomes.kept[which])
        note = {
            "validation/fitness": float(measured.fitness[0]),
            "validation/kept": float(measured.outcomes.kept[0]),
            **{f"validation/{task}": float(v[0]) for task, v in measured.by_task.items()},
        }
        if len(points) > 1:
            note["validation/average"] = float(measured.fitness[1])
        self._line(VALIDATIONS, {"generation": position.total, "stage": self.stage.name, **note})
        self.tracker.log(note, axis="gen", at=position.total)
        changes: dict[str, Any] = {"validated": position.generation, "seconds": self._seconds()}
        if position.validated < 0:
            changes |= {"start_fitness": value, "start_kept": kept}
        better = position.best_generation < 0 or value > position.best_fitness
        best = vectors[which] if better else self.state.best
        if better:
            changes |= {"best_fitness": value, "best_kept": kept}
            changes |= {"best_generation": position.generation}
        self.state = State(position, self.strategy.state(), best, recent).at(**changes)
        self.state.save(self.folder)
        if better:
            self.keep_best()
        words = "the best so far" if better else f"the best has {position.best_fitness:.4f}"
        whose = " of the last means' average" if which else ""
        self.progress.say(
            f"generation {position.total}: validation fitness {value:.4f}{whose}, {kept:.1%} kept; "
            f"{words}"
        )

    # -- between stages and processes --------------------------------------------------------

    def _next_stage(self, old: StageSettings, new: StageSettings, index: int) -> None:
        """Carry the whole search on where the stages search alike, else start from its mean."""
        same = ("strategy", "subspace", "steps", "population")
        carried = all(getattr(old, name) == getattr(new, name) for name in same)
        mean = self.space.vectors(self.strategy.mean[None])[0]
        if carried:
            self.space.save(self.folder / _space_name(index))
        else:
            self._stage_run(index).space(mean).save(self.folder / _space_name(index))
        fresh = Position(stage=index, total=self.state.position.total, seconds=self._seconds())
        self.state = State(fresh, self.strategy.state() if carried else {})
        self.state.save(self.folder)

    def _stage_run(self, index: int) -> StageRun:
        return StageRun(index, self.settings.seed, self.evaluator, self.execution)

    def _space(self, index: int, origin: Tensor) -> SearchSpace:
        path = self.folder / _space_name(index)
        if not path.is_file():
            self.at_work.space(origin).save(path)
        return SearchSpace.load(path)

    def _start(self) -> Namm:
        """The start as it was when the run began; made now if this is when."""
        path = self.folder / START
        if path.is_file() and path.with_suffix(".json").is_file():
            return load_namm(path)
        from namm_mm.registry.registry import build
        from namm_mm.tasks import TASKS

        first, given = self.settings.stages[0].task, self.settings.start
        samples = build(TASKS, first.name, first.options).samples(
            "train", given.statistics_prompts, self.settings.seed
        )
        namm = make_start(given, self.adapter, samples)
        save_namm(namm, path)
        return namm

    # -- what is left behind -----------------------------------------------------------------

    def card(self) -> dict[str, Any]:
        """Say how the best NAMM was made."""
        return evolved_card(self.settings, self.state.position, self.start, self.adapter.model_name)

    def write_best(self) -> None:
        """Write the best NAMM so far and its card."""
        if self.state.best is not None:
            best = replace(self.start, parameters=self.state.best, card=self.card())
            save_namm(best, self.folder / BEST)

    def keep_best(self) -> None:
        """Write the best NAMM so far, and give the trackers a copy with its card."""
        self.write_best()
        paths = [self.folder / BEST, (self.folder / BEST).with_suffix(".json")]
        self.tracker.artifact("namm", paths, "model", self.card())

    def keep_state(self) -> None:
        """Give the trackers a copy of the whole state, from which the search can go on."""
        paths = [self.folder / STATE, *sorted(self.folder.glob("space-*.safetensors"))]
        about = {"about": "the whole state of an evolution", **asdict(self.state.position)}
        self.tracker.artifact("evolution-state", paths, "state", about)

    def _line(self, name: str, values: Mapping[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _out_of_time(self) -> bool:
        limit = self.settings.minutes
        return limit is not None and time.monotonic() - self.began > 60 * limit


def _space_name(index: int) -> str:
    return f"space-{index + 1}.safetensors"
