"""What `transfer` and `evaluate` share: run, print the table, make the report, say where it is."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml
from rich.console import Console

from namm_mm import report
from namm_mm.console.console import table_console
from namm_mm.console.progress import showing
from namm_mm.console.table import result_table
from namm_mm.errors import RunError
from namm_mm.experiment import run
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.runs import read_state
from namm_mm.runs.folder import new_folder
from namm_mm.runs.jsonl import RECORDS, read_records

if TYPE_CHECKING:
    from rich.console import Console

    from namm_mm.experiment import Outcome


class Settings(Protocol):
    """What can be printed and read again: the settings of an experiment or of an evolution."""

    @property
    def config_hash(self) -> str:
        """SHA-256 of everything that a number may depend on."""
        ...

    def as_mapping(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        ...


def print_settings(settings: Settings) -> None:
    """Print resolved settings as YAML, with their hash in the first line."""
    text = yaml.safe_dump(settings.as_mapping(), sort_keys=False, allow_unicode=True)
    sys.stdout.write(f"# config hash {settings.config_hash}\n{text}")


def run_and_report(settings: ExperimentSettings, job_type: str, *, show: bool) -> int:
    """Run an experiment for a person at a console.

    Raises
    ------
    RunError
        The run failed, or no sample of some policy could be scored.
    """
    if show:
        print_settings(settings)
        return 0
    start = time.monotonic()
    outcome = _run(settings, job_type, Console(stderr=True))
    out = table_console()
    _conclude(outcome, out)
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    out.print(f"{len(outcome.records)} records in {minutes} min {seconds} s", highlight=False)
    if outcome.hopeless:
        raise RunError("\n".join(outcome.hopeless))
    return 0


def quiet_bars() -> None:
    """Switch off the progress bars of transformers: ours say what goes on."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _run(settings: ExperimentSettings, job_type: str, console: Console) -> Outcome:
    quiet_bars()
    folder = _folder(settings)
    try:
        with showing(console) as progress:
            return run(settings, folder=folder, job_type=job_type, progress=progress)
    except (KeyboardInterrupt, Exception):
        for line in how_to_continue(folder):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        raise


def _folder(settings: ExperimentSettings) -> Path:
    """The run folder: a shard has its own, so that the same command goes on with it."""
    if settings.folder is not None:
        return settings.folder
    parent = settings.output / settings.name
    if settings.shard is None:
        return new_folder(parent)
    return parent / f"shard-{settings.shard.index}-of-{settings.shard.count}"


def how_to_continue(folder: Path) -> Iterator[str]:
    """Say what a run that did not end has left, and how to go on with it."""
    if not (folder / RECORDS).is_file():
        return
    if kept := len(read_records(folder)[0]):
        yield f"The {kept} records made so far are kept: namm-mm report {folder}"
    yield f"To go on: the same command with folder={folder}"


def _conclude(outcome: Outcome, out: Console) -> None:

    notes = read_state(outcome.folder).notes
    out.print()
    out.print(result_table(outcome.records, notes=notes))
    made = report.render([outcome.folder])
    for name, place in _places(outcome.places, made).items():
        out.print(f"{name + ':':<10}{place}", soft_wrap=True, highlight=False, markup=False)


def _places(places: Mapping[str, str], report: Path) -> dict[str, str]:
    """Where to look; files below the working directory are named from there."""
    here = f"{Path.cwd()}{os.sep}"
    return {
        name: place.removeprefix(here) for name, place in {"report": str(report), **places}.items()
    }
