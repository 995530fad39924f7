"""A report as a W&B report: the same blocks and numbers, and live panels of the synced runs.

W&B shows runs that it knows: sync offline runs first (``wandb sync``). Publishing needs a login;
nothing else in this package does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from namm_mm.errors import RunError
from namm_mm.report import markdown
from namm_mm.results.blocks import Block, Figure, Notice, Report, Text
from namm_mm.runs.load import Run

PROJECT = "namm-mm"


def publish(
    report: Report, runs: Sequence[Run], *, entity: str | None = None, project: str = PROJECT
) -> str:
    """Save `report` in W&B and return its address.

    Parameters
    ----------
    report, runs
        The blocks, and the runs that they are about.
    entity, project
        Where to; by default your own entity.

    Raises
    ------
    RunError
        ``wandb-workspaces`` is not installed, you are not logged in, or the project is not there.
    """
    made = build(report, runs, entity=entity, project=project)
    with _explained():
        made.save()
        return str(made.url)


def build(
    report: Report, runs: Sequence[Run], *, entity: str | None = None, project: str = PROJECT
) -> Any:
    """Build the W&B report without saving it; asks W&B only who you are, and for the project's id.

    Returns
    -------
    wandb_workspaces.reports.v2.Report

    Raises
    ------
    RunError
        As :func:`publish`.
    """
    try:
        wr = import_module("wandb_workspaces.reports.v2")
    except ImportError as error:
        raise RunError(
            "a W&B report needs wandb-workspaces: `pip install 'namm-mm[report]'`."
        ) from error
    with _explained():
        made = wr.Report(project=project, **({} if entity is None else {"entity": entity}))
    made.title, made.description, made.width = report.title, report.subtitle, "fluid"
    runset = _runset(runs, made.entity, project, wr)
    blocks: list[Any] = []
    for section in report.sections:
        blocks.append(wr.H1(section.title))
        for block in section.blocks:
            if isinstance(block, Figure) and block.task:
                blocks.append(wr.PanelGrid(runsets=[runset], panels=[_headline(block, wr)]))
            blocks += _block(block, wr)
    # Results lead, as in HTML; the contents stand after them.
    after = next((n for n, b in enumerate(blocks) if n and isinstance(b, wr.H1)), len(blocks))
    blocks.insert(after, wr.TableOfContents())
    made.blocks = [*blocks, wr.H1("Runs"), _panels(runs, runset, wr)]
    with _explained():
        made._to_model()  # looks the project up: here, where a failure can be explained
    return made


def spec(made: Any) -> str:
    """Return the report as the JSON text that W&B stores."""
    return str(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def _block(block: Block, wr: Any) -> list[Any]:
    match block:
        case Text():
            return [wr.P(block.text)]
        case Notice():
            return [wr.CalloutBlock(text=block.text)]
        case _:
            return [wr.MarkdownBlock(text=markdown.block(block))]


def _runset(runs: Sequence[Run], entity: str, project: str, wr: Any) -> Any:
    names = ", ".join(f'"{run.name}"' for run in runs)
    chosen = f'Metric("displayName") in [{names}]'
    return wr.Runset(name="runs", entity=entity, project=project, filters=chosen)


def _headline(figure: Figure, wr: Any) -> Any:
    """The figure as the runs logged it: a reader can hover over its points."""
    key = f"figures/{figure.task}/{figure.title.replace(' ', '_')}"
    return wr.MediaBrowser(title=f"{figure.task}: {figure.title}", media_keys=[key])


def _panels(runs: Sequence[Run], runset: Any, wr: Any) -> Any:
    """Curves, tables and sizes of the runs themselves, as W&B holds them."""
    curves = dict.fromkeys(
        (record.task, record.metric) for run in runs for record in run.records if record.metric
    )
    tasks = dict.fromkeys(task for task, _ in curves)
    return wr.PanelGrid(
        runsets=[runset],
        panels=[
            *(
                wr.LinePlot(
                    title=f"{task}: {metric.replace('_', ' ')} so far",
                    x="sample",
                    metric_regex=f"{re.escape(task)}/{re.escape(metric)}/.*",
                )
                for task, metric in curves
            ),
            *(
                wr.LinePlot(
                    title=f"{task}: tokens kept, of those seen",
                    x="sample",
                    metric_regex=f"cache/kept_fraction/{re.escape(task)}/.*",
                )
                for task in tasks
            ),
            *(
                wr.MediaBrowser(title=f"{task}: frames", media_keys=[f"frames/{task}"])
                for task in tasks
                if any(r.media.frames for run in runs for r in run.records if r.task == task)
            ),
            *(
                wr.MediaBrowser(title=f"{task}: films", media_keys=[f"films/{task}"])
                for task in dict.fromkeys(
                    r.task for run in runs for r in run.records if r.media.history
                )
            ),
            wr.WeavePanelSummaryTable(table_name="transfer_matrix"),
            wr.WeavePanelSummaryTable(table_name="predictions"),
            wr.WeavePanelSummaryTable(table_name="cache_by_layer"),
            wr.WeavePanelSummaryTable(table_name="kept_by_index"),
        ],
    )


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to do when W&B refuses; its library raises bare exceptions for all of that."""
    try:
        yield
    except Exception as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"W&B did not take the report: {what}. It needs a login (`wandb login`) and synced "
            "runs (`wandb sync RUN/wandb/offline-run-*`). `namm-mm report RUN` makes the same as "
            "a file, without either."
        ) from error
