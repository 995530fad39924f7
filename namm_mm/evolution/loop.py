"""The loop of an evolution: ask, evaluate, tell; validate the mean on fixed prompts.

::

    outcome = run(from_mapping({...}), Path("runs/my-evolution"))
    outcome.namm        # the best mean by validation, for `checkpoint=`
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm import execution
from namm_mm.evolution import run_folder
from namm_mm.evolution.card import evolved_card
from namm_mm.evolution.evaluator import Evaluator, make_adapter, make_evaluator
from namm_mm.evolution.run_folder import BEST, JOURNAL, START, RunFolder
from namm_mm.evolution.search_space import SearchSpace
from namm_mm.evolution.settings import EvolutionSettings, StageSettings
from namm_mm.evolution.stage import Stage
from namm_mm.evolution.start import start_of_run
from namm_mm.evolution.state import Position, State
from namm_mm.execution.progress import Progress, Silent
from namm_mm.execution.signals import stoppable
from namm_mm.execution.temporary import remove_abandoned
from namm_mm.namm import Namm
from namm_mm.runs import Journal, RunInfo, Tracker, provenance, read_state
from namm_mm.runs.disk import explained
from namm_mm.runs.lock import locked
from namm_mm.tracking import open_run

STATE_EVERY = 100  # generations between two copies of the whole state among the artifacts


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    Attributes
    ----------
    folder
        The run folder.
    namm
        File of the best mean of the last stage by validation.
    position
        How far the run is.
    finished
        Whether all generations are done; otherwise the same settings continue the run.
    places
        Where the results are, in words.
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
    """Run all stages, or continue the run that is in `folder`.

    Parameters
    ----------
    settings
        Checked settings, from :func:`namm_mm.evolution.reading.from_mapping`.
    folder
        The run folder.
    progress, anyway
        Is told how the run goes; whether a run with other settings is continued.

    Raises
    ------
    UsageError
        The run in the folder has other settings, or a task has too few prompts.
    RunError
        The model cannot be loaded, or the disk is full. The state before is kept.
    """
    progress = progress or Silent()
    remove_abandoned()
    with locked(folder), explained(folder), stoppable():
        run_folder.prepare(folder, settings, anyway=anyway, progress=progress)
        return _run(settings, folder, progress)


def _run(settings: EvolutionSettings, folder: Path, progress: Progress) -> Outcome:
    name = read_state(folder).name  # a run that is continued keeps its name
    origin = provenance.collect(settings.config_hash, _device(settings), run=name)
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
        position = evolution.state.position
        evolution.keep_best()  # once more: now the card has the final number of generations
        if finished:
            evolution.files.keep_state(position)
        summary = {"best": position.best_fitness, "start": position.start_fitness}
        tracker.finish("ok", {**summary, "generations": position.total, "finished": finished})
        places = dict(tracker.places)
    return Outcome(folder, folder / BEST, position, finished, places)


def _device(settings: EvolutionSettings) -> str:
    asked = str(settings.adapter.options.get("device", "auto"))
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


class _Evolution:
    """A run: its state on disk, and the current stage."""

    def __init__(
        self,
        settings: EvolutionSettings,
        folder: Path,
        progress: Progress,
        tracker: Tracker,
        journal: Journal,
    ) -> None:
        self.settings, self.folder, self.progress = settings, folder, progress
        self.began = time.monotonic()
        self.adapter = make_adapter(settings.adapter)
        progress.say(f"loading {self.adapter.model_name}")
        self.adapter.load()
        self.state = State.load(folder) or State(Position(), {})
        self.before = self.state.position.seconds
        self.files = RunFolder(folder, tracker, self.state.position)
        self.start = start_of_run(
            folder / START, settings.start, self.adapter, settings.stages[0].task, settings.seed
        )
        self.evaluator = Evaluator(self.adapter, settings.stages, self.start)
        self.execution = execution.start(
            settings.execution,
            partial(make_evaluator, settings.adapter, settings.stages, self.start),
            journal,
            here=self.evaluator,
            progress=progress,
        )
        if self.state.best is not None:  # a kill may have left half of the file
            self.files.write_best(self._best(self.state.best))

    def close(self) -> None:
        """Stop the workers."""
        self.execution.close()

    def run(self) -> bool:
        """Run the generations that are left; return whether all are done."""
        stages = self.settings.stages
        while True:
            index = self.state.position.stage
            done = self._run_stage(stages[index], index)
            if not done or index + 1 == len(stages):
                return done
            self._next_stage(stages[index], stages[index + 1], index + 1)

    def _run_stage(self, settings: StageSettings, index: int) -> bool:
        self.stage = self._stage(index)
        path = self.files.space(index)
        if not path.is_file():
            self.stage.space(self.start.parameters).save(path)
        self.space = SearchSpace.load(path)
        self.strategy = self.stage.strategy(len(self.space.index))
        if self.state.strategy:
            self.strategy.load(self.state.strategy)
        left = settings.generations - self.state.position.generation
        self.progress.begin(settings.name, left, "generations")
        while True:
            here = self.state.position
            last = here.generation >= settings.generations
            if here.validated != here.generation and (
                last or here.generation % settings.validate_every == 0
            ):
                self._validate()
            if last:
                return True
            self._generation()
            self.progress.advance()
            if self.state.position.total % STATE_EVERY == 0:
                self.files.keep_state(self.state.position)
            if self._out_of_time():
                done = self.state.position.total
                self.progress.say(f"stopped after {done} generations: the time limit is reached")
                return False

    def _generation(self) -> None:
        began = time.monotonic()
        number = self.state.position.generation
        points = self.strategy.ask()
        batch = self.stage.draw(number)
        measured = self.stage.evaluate(
            batch, self.space.vectors(points), self._count(f"generation {number + 1}", len(batch))
        )
        self.strategy.tell(measured.fitness)
        position, name = self.state.position, self.stage.settings.name
        seconds = time.monotonic() - began
        self.files.generation(position.total, name, measured, self.strategy, seconds)
        self.state = State(
            position, self.strategy.state(), self.state.best, self._recent_means()
        ).at(generation=number + 1, total=position.total + 1, seconds=self._seconds())
        self.state.save(self.folder)

    def _recent_means(self) -> Tensor | None:
        """The last means and the current one, as many as are averaged."""
        count = self.stage.settings.average
        if not count:
            return None
        mean = self.strategy.mean[None].clone()
        before = self.state.recent
        return mean if before is None else torch.cat([before, mean])[-count:]

    def _validate(self) -> None:
        """Validate the mean and the average of the last means, and keep the best one so far."""
        position, recent = self.state.position, self.state.recent
        points = [self.strategy.mean]
        if recent is not None and len(recent) > 1:
            points.append(recent.mean(0))
        vectors = self.space.vectors(torch.stack(points))
        batch = self.stage.validation.all()
        measured = self.stage.evaluate(batch, vectors, self._count("validation", len(batch)))
        self.files.validation(position.total, self.stage.settings.name, measured)
        which = int(measured.fitness.argmax())
        value, kept = float(measured.fitness[which]), float(measured.outcomes.kept[which])
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
        whose = " of the average of the last means" if which else ""
        self.progress.say(
            f"generation {position.total}: validation fitness {value:.4f}{whose}, {kept:.1%} kept; "
            f"{words}"
        )

    def _count(self, what: str, prompts: int) -> Callable[[int], None]:
        """Return what tells the progress how many prompts are done."""
        return lambda count: self.progress.detail(f"{what}, prompt {count} of {prompts}")

    def _next_stage(self, old: StageSettings, new: StageSettings, index: int) -> None:
        """Continue the search where both stages search alike; otherwise start from its mean."""
        same = ("strategy", "subspace", "steps", "population")
        carried = all(getattr(old, name) == getattr(new, name) for name in same)
        mean = self.space.vectors(self.strategy.mean[None])[0]
        space = self.space if carried else self._stage(index).space(mean)
        space.save(self.files.space(index))
        fresh = Position(stage=index, total=self.state.position.total, seconds=self._seconds())
        self.state = State(fresh, self.strategy.state() if carried else {})
        self.state.save(self.folder)

    def _stage(self, index: int) -> Stage:
        return Stage(index, self.settings.seed, self.evaluator, self.execution)

    def _best(self, vector: Tensor) -> Namm:
        """Return the NAMM of a vector, with its card."""
        name = self.adapter.model_name
        card = evolved_card(self.settings, self.state.position, self.start, name)
        return replace(self.start, parameters=vector, card=card)

    def keep_best(self) -> None:
        """Write the best NAMM so far, and give the trackers a copy with its card."""
        if self.state.best is not None:
            self.files.keep_best(self._best(self.state.best))

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.began

    def _out_of_time(self) -> bool:
        limit = self.settings.minutes
        return limit is not None and time.monotonic() - self.began > 60 * limit
