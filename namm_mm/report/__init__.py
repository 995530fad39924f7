"""Reports, made from records alone: one block model, several renderings with the same numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from namm_mm.errors import RunError, UsageError, message
from namm_mm.report import html, markdown, pictures, wandb
from namm_mm.report.contents import build
from namm_mm.results.rows import Row
from namm_mm.runs.disk import reason, write_whole
from namm_mm.runs.load import Run, load_runs

__all__ = ["publish", "render", "write"]

SUFFIXES = {"html": "report.html", "markdown": "report.md"}


def publish(
    folders: Sequence[Path], *, entity: str | None = None, project: str | None = None
) -> str:
    """Save the same report in W&B, with live panels of the synced runs, and return its address.

    Parameters
    ----------
    folders
        Run folders.
    entity, project
        Where to; by default your own entity, and ``WANDB_PROJECT`` or ``namm-mm``.

    Raises
    ------
    UsageError
        A folder holds no records, or they are of a newer version.
    RunError
        You are not logged in, or W&B does not know the project.
    """
    runs = load_runs(folders)
    project = project or os.environ.get("WANDB_PROJECT") or wandb.PROJECT
    return wandb.publish(build(runs), runs, entity=entity, project=project)


def render(folders: Sequence[Path], output: Path | None = None, kind: str = "html") -> Path:
    """Make the report of one run, or of several side by side, and return its file.

    Parameters
    ----------
    folders
        Run folders.
    output, kind
        As in :func:`write`.

    Raises
    ------
    UsageError
        A folder holds no records, they are of a newer version, or the kind is unknown.
    RunError
        The file cannot be written.
    """
    check_kind(kind)
    return write(load_runs(folders), output, kind)


def write(
    runs: Sequence[Run],
    output: Path | None = None,
    kind: str = "html",
    *,
    rows: Sequence[Row] | None = None,
) -> Path:
    """Make the report of runs that are read already, and return its file.

    Parameters
    ----------
    runs
        One, or several side by side.
    output
        The file to write; by default ``report.html`` (or ``.md``) in the last run folder.
    kind
        ``html`` (one file, works with no network) or ``markdown`` (with matplotlib, pictures lie in
        ``report_pictures/`` beside it).
    rows
        The result rows of all records, where they are known.

    Raises
    ------
    UsageError
        The kind is unknown.
    RunError
        The file cannot be written.
    """
    check_kind(kind)
    report = build(runs, rows)
    target = output or runs[-1].folder / SUFFIXES[kind]
    drawn = target.with_name(f"{target.stem}_pictures") if pictures.available() else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = html.render(report) if kind == "html" else markdown.render(report, drawn)
        write_whole(target, text)
    except OSError as error:
        raise RunError(
            f"the report cannot be written to {target}: {reason(error)}. Choose another file."
        ) from error
    return target


def check_kind(kind: str) -> None:
    """Raise `UsageError` unless `kind` is a format of :func:`write`."""
    if kind not in SUFFIXES:
        raise UsageError(
            message("unknown kind of report", given=kind, expected="a format", valid=SUFFIXES)
        )
