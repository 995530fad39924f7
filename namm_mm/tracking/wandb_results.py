"""What a W&B run gets at its end, made from all records of the run.

Keys, where WHO is model, policy and budget (``pocket-video/h2o_match_namm``):

- tables ``transfer_matrix``, ``predictions``, ``cache_by_layer``, ``kept_by_index``;
- ``cache/size_by_layer/TASK/WHO`` a histogram whose bins are the layers;
- ``scores/TASK/WHO/layer_N`` histograms of the scores that the policy gave;
- ``frames/TASK`` pictures of some samples, ``films/TASK`` what was kept of them or an episode,
  ``episodes/TASK/WHO`` an episode's return and what was kept;
- ``figures/TASK/NAME`` the figures of the report;
- in the summary ``TASK/METRIC/WHO/{mean,low,high,n,errors}``, in ``TABLE/left_out`` how many rows a
  table leaves out, and for a run of one method, which a sweep compares,
  ``evaluate/{score,kept_fraction,bytes_final}``.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from namm_mm.records import Record
from namm_mm.results import films, tables
from namm_mm.results.figures import figures
from namm_mm.results.kept_means import index_means, layer_means
from namm_mm.results.rows import result_rows
from namm_mm.results.watched import episode_figures, scores_by_layer, watched
from namm_mm.runs.jsonl import RECORDS
from namm_mm.runs.load import read_run
from namm_mm.tracking.wandb_names import Names, printable, safe


def send_results(run: Any, folder: Path, names: Names) -> None:
    """Send tables, pictures and figures, and set the summary.

    Parameters
    ----------
    run
        The W&B run.
    folder
        The run folder.
    names
        Of methods, as in the curves.
    """
    records = read_run(folder).records if (folder / RECORDS).is_file() else ()
    if not records:
        return
    _send_tables(run, records, names)
    _send_frames(run, records, folder)
    _send_watched(run, records, folder, names)
    _send_figures(run, records)
    rows = result_rows(records)
    if len(rows) == 1:
        run.summary["evaluate/score"] = rows[0].score and rows[0].score.mean
        run.summary["evaluate/kept_fraction"] = rows[0].kept_fraction
        run.summary["evaluate/bytes_final"] = rows[0].bytes_final
    for row in rows:
        if row.score is not None:
            key = f"{row.cell.task}/{row.metric}/{names.of(row.cell, row.method)}"
            for part, value in dataclasses.asdict(row.score).items():
                run.summary[f"{key}/{part}"] = value
            run.summary[f"{key}/errors"] = row.errors


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Return a W&B table."""
    import wandb

    data = [[_table_value(value) for value in row] for row in rows]
    return wandb.Table(columns=list(columns), data=data, allow_mixed_types=True)


def _table_value(value: Any) -> Any:
    """What a W&B table takes; anything else as words."""
    if value is None or isinstance(value, float | int | bool):
        return value
    return printable(str(value))


def _send_tables(run: Any, records: Sequence[Record], names: Names) -> None:
    import numpy as np
    import wandb

    layers = layer_means(records)
    for name, whole in {
        "transfer_matrix": tables.transfer_matrix(result_rows(records)),
        "predictions": tables.predictions(records),
        "cache_by_layer": tables.cache_by_layer(layers),
        "kept_by_index": tables.kept_by_index(index_means(records)),
    }.items():
        columns, rows = tables.thinned(whole)
        run.log({name: table(columns, rows)})
        run.summary[f"{name}/left_out"] = len(whole[1]) - len(rows)
    run.log(
        {
            f"cache/size_by_layer/{cell.task}/{names.of(cell, method)}": wandb.Histogram(
                np_histogram=(np.array(sizes), np.arange(len(sizes) + 1))
            )
            for (cell, method), sizes in layers.items()
        }
    )


def _send_frames(run: Any, records: Sequence[Record], folder: Path) -> None:
    """Send the pictured samples of each task: what the model saw, with question and answer."""
    import wandb

    captions: dict[str, dict[Path, str]] = defaultdict(dict)
    for record in records:
        file = folder / record.media.frames
        if file.is_file():
            asked = f"{record.asked.question} {record.asked.right_answer}"
            captions[record.task].setdefault(file, printable(f"{record.sample}: {asked}"))
    logged = {
        f"frames/{task}": [
            wandb.Image(picture, caption=caption)
            for picture, caption in zip(_of_one_size(said), said.values(), strict=True)
        ]
        for task, said in captions.items()
    }
    if logged:
        run.log(logged)


def _of_one_size(files: Iterable[Path]) -> list[Any]:
    """Read pictures and fill them up with black: W&B shows a list in the size of its first one."""
    from PIL import Image, ImageOps

    pictures = [Image.open(file).convert("RGB") for file in files]
    width, height = (max(sides) for sides in zip(*(p.size for p in pictures), strict=True))
    return [
        ImageOps.expand(p, (0, 0, width - p.width, height - p.height), fill="black")
        for p in pictures
    ]


def _send_watched(run: Any, records: Sequence[Record], folder: Path, names: Names) -> None:
    """Send what is known of samples that were watched closely."""
    import wandb
    from plotly.graph_objects import Figure

    for cell, samples in watched(records, folder).items():
        sent: dict[str, Any] = {
            f"scores/{cell.task}/{names.of(cell, method)}/layer_{layer:02d}": wandb.Histogram(
                scores.tolist()
            )
            for method, layer, scores in scores_by_layer(samples)
        }
        if made := list(films.films(cell, samples, folder)):
            sent[f"films/{cell.task}"] = [_video(*film) for film in made]
        if film := films.episode_film(cell, samples, folder):
            sent[f"films/{cell.task}"] = _video(*film)
        for label, figure in episode_figures(samples):
            sent[f"episodes/{cell.task}/{safe(label)}"] = wandb.Plotly(Figure(figure))
        if sent:
            run.log(sent)


def _send_figures(run: Any, records: Sequence[Record]) -> None:
    """Send the figures of the report, so that those who look here see the same."""
    import wandb
    from plotly.graph_objects import Figure

    for cell, found in figures(records):
        run.log(
            {
                f"figures/{cell.task}/{safe(figure.title)}": wandb.Plotly(Figure(figure.plot))
                for figure in found
            }
        )


def _video(film: Path, caption: str) -> Any:
    import wandb

    caption = printable(caption)
    return wandb.Video(str(film), caption, format="gif" if film.suffix == ".gif" else "mp4")
