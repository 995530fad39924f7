"""The run folder of an evolution: a new one, or that of a run which is continued; and its files.

::

    config.yaml           the settings
    state.safetensors     the whole state, replaced after every generation
    evaluations.jsonl     the journal of the evaluations
    generations.jsonl     one line for each generation
    validations.jsonl     one line for each validation
    start.safetensors     the NAMM that the search started from
    best.safetensors      the best NAMM by validation, and its card in best.json
    space-N.safetensors   the search space of stage N
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from namm_mm.errors import UsageError, message
from namm_mm.evolution.reading import with_current_names
from namm_mm.evolution.settings import EvolutionSettings
from namm_mm.evolution.stage import Measured
from namm_mm.evolution.state import STATE, Position
from namm_mm.evolution.strategy import Strategy
from namm_mm.execution.progress import Progress
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save as save_namm
from namm_mm.registry.differences import differences
from namm_mm.runs import Tracker

CONFIG, START, BEST = "config.yaml", "start.safetensors", "best.safetensors"
JOURNAL, GENERATIONS, VALIDATIONS = "evaluations.jsonl", "generations.jsonl", "validations.jsonl"


def prepare(folder: Path, settings: EvolutionSettings, *, anyway: bool, progress: Progress) -> None:
    """Write the settings into the folder; of a run that is there, compare them first.

    Raises
    ------
    UsageError
        A run with other settings is there and `anyway` is not set, or nothing can be written.
    """
    path = folder / CONFIG
    begun = (folder / STATE).is_file()
    if not begun:  # files of a run that never finished a step belong to its own settings
        for left in (*folder.glob("start.*"), *folder.glob("space-*.safetensors")):
            left.unlink()
    if begun and path.is_file():
        old = with_current_names(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        deciding = json.loads(json.dumps(settings.deciding))
        changed = differences({key: old.get(key) for key in deciding}, deciding)
        if changed and not anyway:
            raise UsageError(
                "the run in this folder was started with other settings:\n"
                + "\n".join(f"- {line}" for line in changed)
                + f"\nGot {str(folder)!r}; expected the same settings, or another folder. "
                "`--anyway` continues with the new ones."
            )
        for line in changed:
            progress.say(f"changed setting: {line}")
    plain = json.loads(json.dumps(settings.as_mapping()))
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# config hash {settings.config_hash}\n{text}", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            message(
                "the output folder cannot be written",
                given=str(folder),
                expected=f"a folder that you may write to ({error.strerror})",
                then="Choose another one with `folder=FOLDER`.",
            )
        ) from error


class RunFolder:
    """Writes the results of a run to its folder, and tells the trackers.

    Parameters
    ----------
    folder
        The run folder; see :func:`prepare`.
    tracker
        Gets the curves, and copies of the best NAMM and of the state.
    position
        The run's position. Lines that a killed run wrote after it are removed.
    """

    def __init__(self, folder: Path, tracker: Tracker, position: Position) -> None:
        self.folder, self.tracker = folder, tracker
        _trim(folder / GENERATIONS, position.total)
        validated = position.validated == position.generation
        _trim(folder / VALIDATIONS, position.total + validated)

    def space(self, stage: int) -> Path:
        """Return the path of the search space of a stage."""
        return self.folder / f"space-{stage + 1}.safetensors"

    def generation(
        self, number: int, stage: str, measured: Measured, strategy: Strategy, seconds: float
    ) -> None:
        """Add the numbers of a generation.

        Parameters
        ----------
        measured
            What its candidates reached.
        strategy
            The strategy after the generation.
        seconds
            Time that the generation took.
        """
        values, kept = measured.fitness, measured.outcomes.kept_by_layer
        note: dict[str, Any] = {
            "fitness/best": float(values.max()),
            "fitness/mean": float(values.mean()),
            "fitness/std": float(values.std()),
            "search/sigma": strategy.sigma,
            "search/condition": strategy.condition,
            "kept/mean": float(kept.mean()),
            "seconds": round(seconds, 2),
            "tokens_per_second": round(measured.tokens / max(measured.seconds, 1e-9), 1),
        }
        by_layer = kept.mean(0).tolist()
        line = {**note, "kept/by_layer": [round(fraction, 4) for fraction in by_layer]}
        self._append(GENERATIONS, {"generation": number, "stage": stage, **line})
        curves = {f"kept/layer_{index:02d}": value for index, value in enumerate(by_layer)}
        self.tracker.log({**note, **curves}, axis="gen", at=number)

    def validation(self, number: int, stage: str, measured: Measured) -> None:
        """Add the validation after so many generations: of the mean, and of the average of means.

        `measured` holds the mean first; the average is second, where it was validated.
        """
        note = {
            "validation/fitness": float(measured.fitness[0]),
            "validation/kept": float(measured.outcomes.kept[0]),
            **{f"validation/{task}": float(v[0]) for task, v in measured.by_task.items()},
        }
        if len(measured.fitness) > 1:
            note["validation/average"] = float(measured.fitness[1])
        self._append(VALIDATIONS, {"generation": number, "stage": stage, **note})
        self.tracker.log(note, axis="gen", at=number)

    def write_best(self, namm: Namm) -> None:
        """Write the best NAMM and its card."""
        save_namm(namm, self.folder / BEST)

    def keep_best(self, namm: Namm) -> None:
        """Write the best NAMM and its card, and give the trackers a copy."""
        self.write_best(namm)
        paths = [self.folder / BEST, (self.folder / BEST).with_suffix(".json")]
        self.tracker.artifact("namm", paths, "model", namm.card)

    def keep_state(self, position: Position) -> None:
        """Give the trackers a copy of the whole state, from which the search can continue."""
        paths = [self.folder / STATE, *sorted(self.folder.glob("space-*.safetensors"))]
        about = {"about": "the whole state of an evolution", **asdict(position)}
        self.tracker.artifact("evolution-state", paths, "state", about)

    def _append(self, name: str, values: Mapping[str, Any]) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def _trim(path: Path, total: int) -> None:
    """Remove lines of a ``.jsonl`` that a killed run wrote after its last whole state."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            if json.loads(line)["generation"] < total:
                kept.append(line)
        except (ValueError, TypeError, KeyError):
            continue
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    fresh.replace(path)
