"""The mirror: a W&B run made of the same records.

It is offline unless asked otherwise. All of its folders lie under the run folder, artifacts that
wait for upload included.

Keys, where WHO is model, policy and budget (``pocket-video/h2o_match_namm``):

- ``TASK/METRIC/WHO`` the mean so far, ``cache/kept_fraction/TASK/WHO``, ``errors/TASK/WHO``,
  ``perf/first_token_seconds/TASK/WHO``, along ``sample``;
- ``cache/size_by_layer/TASK/WHO`` a histogram whose bins are the layers;
- ``scores/TASK/WHO/layer_N`` histograms of the scores that the policy gave;
- ``frames/TASK`` pictures of some samples, ``films/TASK`` what was kept of them; for
  control ``films/TASK`` an episode, ``episodes/TASK/WHO`` its return and what was kept;
- ``figures/TASK/NAME`` the figures of the report;
- tables ``transfer_matrix``, ``predictions``, ``cache_by_layer``, ``kept_by_index``;
- in the summary ``TASK/METRIC/WHO/{mean,low,high,n,errors}``.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

from namm_mm.records import Record
from namm_mm.results import tables
from namm_mm.results.cells import Cell, Method, cell_of, failed, method_of
from namm_mm.results.kept_means import index_means, layer_means
from namm_mm.results.rows import result_rows
from namm_mm.runs.jsonl import read_records
from namm_mm.runs.tracker import FinishOnExit, RunInfo, Status, Value, check_status

logger = logging.getLogger(__name__)

PROJECT = "namm-mm"

_FOLDERS = {
    "WANDB_DIR": ".",
    "WANDB_DATA_DIR": "wandb/data",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
}


class WandbTracker(FinishOnExit):
    """A W&B run. Project, entity, name and group follow the ``WANDB_*`` variables where set.

    Parameters
    ----------
    folder
        The run folder, which holds (or will hold) ``records.jsonl``.
    info
        Who the run is.
    mode
        ``offline`` or ``online``; without a login, the second becomes the first, with a warning.
    """

    def __init__(self, folder: Path, info: RunInfo, *, mode: Literal["offline", "online"]) -> None:
        super().__init__()
        self.folder = folder
        self._means: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._samples: Counter[str] = Counter()
        self._names: dict[tuple[Cell, Method], str] = {}
        self._offline = mode == "offline"
        self._axes: set[str] = set()
        self._saved = {name: os.environ.get(name) for name in _FOLDERS}
        for name, below in _FOLDERS.items():
            path = (folder / below).resolve()
            path.mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(path)
        try:
            self._run = self._start(info, mode)
        except BaseException:
            self._restore()
            raise

    def _start(self, info: RunInfo, mode: Literal["offline", "online"]) -> Any:
        import wandb

        arguments: dict[str, Any] = {
            "project": os.environ.get("WANDB_PROJECT") or PROJECT,
            "group": os.environ.get("WANDB_RUN_GROUP") or info.experiment,
            "name": os.environ.get("WANDB_NAME") or info.provenance.run,
            "job_type": os.environ.get("WANDB_JOB_TYPE") or info.job_type,
            "tags": [*info.tags, *filter(None, os.environ.get("WANDB_TAGS", "").split(","))],
            "notes": "\n".join(info.notes) or None,
            "config": {**info.config, "provenance": dataclasses.asdict(info.provenance)},
            "dir": str(self.folder.resolve()),
            "settings": wandb.Settings(console="off", silent=True),
            "reinit": "create_new",
        }
        try:
            return wandb.init(mode=mode, **arguments)
        except (wandb.errors.UsageError, wandb.errors.CommError) as error:
            if mode != "online":
                raise
            logger.warning(
                "W&B cannot be reached (%s); recording offline instead. "
                "After `wandb login`, send it with `wandb sync %s/wandb/offline-run-*`.",
                str(error).splitlines()[0],
                self.folder,
            )
            self._offline = True
            return wandb.init(mode="offline", **arguments)

    @property
    def places(self) -> Mapping[str, str]:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        return {"W&B": str(Path(self._run.dir).parent) if self._offline else self._run.url}

    def record(self, record: Record) -> None:
        """Log running means: one point on the curves of this record's task and method."""
        who = self._who(cell_of(record), method_of(record))
        self._samples[who] += 1
        values: dict[str, float] = {}
        if failed(record):
            values[f"errors/{record.task}/{who}"] = self._total(f"errors/{record.task}/{who}", 1.0)
        else:
            key = f"{record.task}/{record.metric}/{who}"
            values[key] = self._mean(key, float(record.value or 0.0))
            key = f"perf/first_token_seconds/{record.task}/{who}"
            values[key] = self._mean(key, record.first_token_seconds)
        if record.memory is not None and (kept := record.memory.kept_fraction) is not None:
            key = f"cache/kept_fraction/{record.task}/{who}"
            values[key] = self._mean(key, kept)
        self.log(values, axis="sample", at=self._samples[who])

    def log(self, values: Mapping[str, Value], *, axis: str, at: int) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        import wandb

        if axis not in self._axes:
            self._run.define_metric(axis, hidden=True)
            self._axes.add(axis)
        for key in values:
            family = f"{key.split('/')[0]}/*" if "/" in key else key
            if f"{axis}:{family}" not in self._axes:
                self._run.define_metric(family, step_metric=axis)
                self._axes.add(f"{axis}:{family}")
        plain = {
            key: value
            if isinstance(value, float | int | str | bool)
            else wandb.Histogram(list(value))
            for key, value in values.items()
        }
        self._run.log({**plain, axis: at})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        import wandb

        data = [[_cell(value) for value in row] for row in rows]
        table = wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)
        self._run.log({name: table})

    def artifact(
        self, name: str, paths: Sequence[Path], kind: str, metadata: Mapping[str, Any]
    ) -> None:
        """See :class:`~namm_mm.runs.tracker.Tracker`."""
        import wandb

        artifact = wandb.Artifact(_safe(name), type=kind, metadata=dict(metadata))
        for path in paths:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def finish(self, status: Status, summary: Mapping[str, Any] | None = None) -> None:
        """Send the tables, made from ``records.jsonl``, and the summary; then end the run."""
        check_status(status)
        if self.finished:
            return
        self.finished = True
        try:
            self._send_results()
            self._run.summary.update({"status": status, **(summary or {})})
            if status == "stopped":
                self._run.mark_preempting()
        finally:
            self._run.finish(exit_code=0 if status == "ok" else 1)
            self._restore()

    def _send_results(self) -> None:
        import numpy as np
        import wandb

        try:
            records, _ = read_records(self.folder)
        except ValueError:
            return
        if not records:
            return
        rows = result_rows(records)
        layers = layer_means(records)
        self.table("transfer_matrix", *tables.transfer_matrix(rows))
        self.table("predictions", *tables.predictions(records))
        self.table("cache_by_layer", *tables.cache_by_layer(layers))
        self.table("kept_by_index", *tables.kept_by_index(index_means(records)))
        self._send_frames(records)
        self._send_watched(records)
        self._send_figures(records)
        self._run.log(
            {
                f"cache/size_by_layer/{cell.task}/{self._who(cell, method)}": wandb.Histogram(
                    np_histogram=(np.array(sizes), np.arange(len(sizes) + 1))
                )
                for (cell, method), sizes in layers.items()
            }
        )
        for row in rows:
            if row.score is not None:
                key = f"{row.cell.task}/{row.metric}/{self._who(row.cell, row.method)}"
                for part, value in dataclasses.asdict(row.score).items():
                    self._run.summary[f"{key}/{part}"] = value
                self._run.summary[f"{key}/errors"] = row.errors

    def _send_frames(self, records: Sequence[Record]) -> None:
        """Send the pictured samples of each task: what the model saw, with question and answer."""
        import wandb

        pictures: dict[str, dict[str, Any]] = defaultdict(dict)
        for record in records:
            file = self.folder / record.media.frames
            if file.is_file():
                asked = f"{record.asked.question} {record.asked.right_answer}"
                pictures[record.task].setdefault(
                    file.name, wandb.Image(str(file), caption=f"{record.sample}: {asked}")
                )
        if pictures:
            self._run.log({f"frames/{task}": list(f.values()) for task, f in pictures.items()})

    def _send_watched(self, records: Sequence[Record]) -> None:
        """Send what is known of samples that were watched closely."""
        import wandb

        from namm_mm.results import films as media

        for cell, samples in media.watched(records, self.folder).items():
            sent: dict[str, Any] = {
                f"scores/{cell.task}/{self._who(cell, method)}/layer_{layer:02d}": wandb.Histogram(
                    scores.tolist()
                )
                for method, layer, scores in media.scores_by_layer(samples)
            }
            if films := list(media.films(cell, samples, self.folder)):
                sent[f"films/{cell.task}"] = [_video(*film) for film in films]
            if film := media.episode_film(cell, samples, self.folder):
                sent[f"films/{cell.task}"] = _video(*film)
            for label, figure in media.episode_figures(samples):
                sent[f"episodes/{cell.task}/{_safe(label)}"] = wandb.Plotly(figure)
            if sent:
                self._run.log(sent)

    def _send_figures(self, records: Sequence[Record]) -> None:
        """Send the figures of the report, so that those who look here see the same."""
        import wandb
        from plotly.graph_objects import Figure

        from namm_mm.results.figures import figures

        for cell, found in figures(records):
            self._run.log(
                {
                    f"figures/{cell.task}/{_safe(figure.title)}": wandb.Plotly(Figure(figure.plot))
                    for figure in found
                }
            )

    def _who(self, cell: Cell, method: Method) -> str:
        """Model, policy and budget as part of a key; more only where that is not enough."""
        if (cell, method) not in self._names:
            short = f"{_safe(cell.model)}/{_safe(method.label)}"
            taken = {name for (other, _), name in self._names.items() if other.task == cell.task}
            long = f"{short}_{_safe('_'.join(map(str, method[3:])))}"
            names = chain((short, long), (f"{long}_{number}" for number in count(2)))
            self._names[cell, method] = next(name for name in names if name not in taken)
        return self._names[cell, method]

    def _total(self, key: str, value: float) -> float:
        self._means[key][0] += value
        return self._means[key][0]

    def _mean(self, key: str, value: float) -> float:
        self._means[key][1] += 1
        return self._total(key, value) / self._means[key][1]

    def _restore(self) -> None:
        for name, value in self._saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _video(film: Path, caption: str) -> Any:
    import wandb

    return wandb.Video(str(film), caption=caption, format="gif" if film.suffix == ".gif" else "mp4")


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]+", "_", text).strip("_")


def _cell(value: Any) -> Any:
    """What a W&B table takes; anything else as words."""
    return value if value is None or isinstance(value, float | int | str | bool) else str(value)
