"""``--multirun``: a run for each combination of values, each in its folder, one report over all."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from namm_mm import report
from namm_mm.commands.compose import groups
from namm_mm.commands.overrides import read_overrides
from namm_mm.commands.planning import print_plan
from namm_mm.commands.running import print_settings, quiet_bars
from namm_mm.commands.sweeps import Combination, combinations
from namm_mm.console.console import table_console
from namm_mm.console.progress import showing
from namm_mm.console.table import ResultTable
from namm_mm.errors import NammError, RunError, UsageError, message
from namm_mm.experiment import run
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.results.compared_runs import told
from namm_mm.results.rows import result_rows
from namm_mm.runs import read_state
from namm_mm.runs.folder import new_folder
from namm_mm.runs.jsonl import RECORDS
from namm_mm.runs.load import load_runs
from namm_mm.runs.sweep import runs_of, write_sweep

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

Read = Callable[[Sequence[str]], ExperimentSettings]
"""Reads and checks the settings of one run from the words of its command line."""


@dataclass(frozen=True)
class Planned:
    """One run of a sweep, with its settings."""

    combination: Combination
    settings: ExperimentSettings


def run_sweep(call: Call, read: Read, job_type: str) -> int:
    """Run every combination; what an earlier process finished in the folder is not run again.

    All settings are checked before the first run. A run that fails does not stop the others.

    Raises
    ------
    UsageError
        Nothing is swept, or a combination cannot be.
    RunError
        Some run failed.
    """
    for option in ("cfg", "info"):
        if option in call.options:
            raise UsageError(
                message(
                    f"--{option} is about one configuration",
                    given=f"--{option} --multirun",
                    expected="--show, which prints that of every run",
                )
            )
    overrides = read_overrides(call.words)
    found = combinations(overrides, groups(call.configs))
    planned = [Planned(one, _checked(one, read)) for one in found]
    if {"show", "plan"} & call.options.keys():
        return max(_shown(one, call) for one in planned)
    parent = next((o.value for o in overrides if o.key == "folder"), None)
    folder = _folder(planned, Path(parent).expanduser() if parent else None)
    start = time.monotonic()
    failed = _run_all(planned, folder, job_type, Console(stderr=True))
    _conclude(folder, time.monotonic() - start)
    if failed:
        raise RunError("\n".join(failed))
    return 0


def _checked(one: Combination, read: Read) -> ExperimentSettings:
    try:
        return read(one.words)
    except UsageError as error:
        raise UsageError(f"{one.name}: {error}") from error


def _shown(one: Planned, call: Call) -> int:
    sys.stdout.write(f"# {one.combination.name}\n")
    if "plan" in call.options:
        return print_plan(one.settings, call.options)
    print_settings(one.settings)
    return 0


def _folder(planned: Sequence[Planned], given: Path | None) -> Path:
    """The folder of the sweep, with a file that says what is swept."""
    names = dict.fromkeys(one.settings.name for one in planned)
    name = next(iter(names)) if len(names) == 1 else "sweep"
    folder = given or new_folder(planned[0].settings.output / name)
    if (folder / RECORDS).is_file():
        raise UsageError(
            message(
                "a folder of one run",
                given=str(folder),
                expected="a folder for a sweep: a new one, or one that a sweep began",
            )
        )
    try:
        runs = {one.combination.folder: one.combination.words for one in planned}
        write_sweep(folder, name, runs)
    except OSError as error:
        raise UsageError(
            message(
                f"the folder of the sweep cannot be written ({error.strerror})",
                given=str(folder),
                expected="a folder that can be written",
                then="Choose another one with `folder=FOLDER`.",
            )
        ) from error
    return folder


def _run_all(
    planned: Sequence[Planned], folder: Path, job_type: str, console: Console
) -> list[str]:
    """Run what is missing; return a sentence for each run that failed."""
    quiet_bars()
    group, failed = f"{folder.parent.name}-{folder.name}", []
    for number, one in enumerate(planned, 1):
        name, own = one.combination.name, folder / one.combination.folder
        console.print(f"{number}/{len(planned)} {name}", style="bold", markup=False)
        state = read_state(own)
        known = state.provenance.get("config_hash")
        if state.status == "ok" and known == one.settings.config_hash:
            console.print("is there", style="dim")
            continue
        try:
            with showing(console) as progress:
                outcome = run(
                    one.settings,
                    folder=own,
                    job_type=job_type,
                    progress=progress,
                    name=name,
                    group=group,
                )
            failed += [f"{name}: {sentence}" for sentence in outcome.hopeless]
        except NammError as error:
            console.print(f"failed: {error}", style="red", markup=False)
            failed.append(f"{name}: {error}")
        except (KeyboardInterrupt, Exception):
            hint = f"To go on with the sweep: the same command with folder={folder}"
            console.print(hint, highlight=False, markup=False, soft_wrap=True)
            raise
    return failed


def _conclude(folder: Path, seconds: float) -> None:
    """Print the table of all runs and make the report over them."""
    there = runs_of(folder)
    if not there:
        return
    runs, out = load_runs(there), table_console()
    rows = result_rows([record for run in runs for record in run.records])
    out.print()
    out.print(ResultTable(rows, told(runs)))
    made = report.write(runs, folder / report.SUFFIXES["html"], rows=rows)
    out.print(f"report:   {made}", soft_wrap=True, highlight=False, markup=False)
    out.print(f"sweep:    {folder}", soft_wrap=True, highlight=False, markup=False)
    minutes, rest = divmod(round(seconds), 60)
    out.print(f"{len(runs)} runs in {minutes} min {rest} s", highlight=False)
