"""The folder of a sweep: ``sweep.yaml``, which names its runs, and the folders of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from namm_mm.errors import RunError, message
from namm_mm.runs.disk import write_whole
from namm_mm.runs.jsonl import RECORDS, SWEEP


def write_sweep(folder: Path, name: str, runs: Mapping[str, Sequence[str]]) -> None:
    """Write ``sweep.yaml``.

    Parameters
    ----------
    folder
        Of the sweep.
    name
        Of the experiment.
    runs
        The folder of each run, below `folder`, with the words of its command line.

    Raises
    ------
    OSError
        It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"name": name, "runs": {run: list(words) for run, words in runs.items()}}
    write_whole(folder / SWEEP, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def runs_of(folder: Path) -> list[Path]:
    """Return the run folders of a sweep that hold records; `folder` itself if it is no sweep.

    Raises
    ------
    RunError
        ``sweep.yaml`` cannot be read.
    """
    file = folder / SWEEP
    if (folder / RECORDS).is_file() or not file.is_file():
        return [folder]
    return list(_with_records(file))


def _with_records(file: Path) -> Iterator[Path]:
    try:
        names = list(yaml.safe_load(file.read_text(encoding="utf-8"))["runs"])
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise RunError(
            message(
                f"{file} cannot be read ({type(error).__name__})",
                given=str(file.parent),
                expected="the folder of a sweep",
                then="Its runs are the folders in it: `namm-mm report RUN RUN`.",
            )
        ) from error
    for name in names:
        if (file.parent / str(name) / RECORDS).is_file():
            yield file.parent / str(name)
