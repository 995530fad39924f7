"""Reports, made from records alone: one block model, several renderings with the same numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from namm_mm.errors import RunError, UsageError, message
from namm_mm.runs.disk import reason, write_whole

__all__ = ["publish", "render"]

_SUFFIXES = {"html": "report.html", "markdown": "report.md"}


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
    from namm_mm.report import wandb
    from namm_mm.report.build import build
    from namm_mm.runs.load import load_runs

    runs = load_runs(folders)
    project = project or os.environ.get("WANDB_PROJECT") or wandb.PROJECT
    return wandb.publish(build(runs), runs, entity=entity, project=project)


def render(folders: Sequence[Path], output: Path | None = None, kind: str = "html") -> Path:
    """Make the report of one run, or of several side by side, and return its file.

    Parameters
    ----------
    folders
        Run folders.
    output
        The file to write; by default ``report.html`` (or ``.md``) in the last run folder.
    kind
        ``html`` (one file, works with no network) or ``markdown`` (with matplotlib, pictures lie in
        ``report_pictures/`` beside it).

    Raises
    ------
    UsageError
        A folder holds no records, they are of a newer version, or the kind is unknown.
    RunError
        The file cannot be written.
    """
    from namm_mm.report import html, markdown, pictures
    from namm_mm.report.build import build
    from namm_mm.runs.load import load_runs

    if kind not in _SUFFIXES:
        raise UsageError(
            message("unknown kind of report", given=kind, expected="a format", valid=_SUFFIXES)
        )
    runs = load_runs(folders)
    report = build(runs)
    last = folders[-1] if folders[-1].is_dir() else folders[-1].parent
    target = output or last / _SUFFIXES[kind]
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
