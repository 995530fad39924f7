"""What a tracker shows beside numbers: films of what was kept, films of episodes, scores by layer.

Everything is made from the records and the histories beside them, at the end of a run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.records import Record
from namm_mm.results.cells import NAMM, Cell, Method, failed, group
from namm_mm.runs.history import History, of_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDER = "films"

FILMS = 4
"""Video samples of one cell that get a film. One episode is rendered, since that takes long."""

Watched = tuple[Method, Record, History]
Film = tuple[Path, str]
"""A file and its caption."""


def watched(records: Sequence[Record], run: Path) -> dict[Cell, dict[str, list[Watched]]]:
    """The samples of each cell that have a history, with all their policies."""
    found: dict[Cell, dict[str, list[Watched]]] = {}
    for cell, methods in group(records).items():
        samples: dict[str, list[Watched]] = defaultdict(list)
        for method, chosen in methods.items():
            for record in chosen:
                history = None if failed(record) else of_record(record, run)
                if history is not None:
                    samples[record.sample].append((method, record, history))
        if samples:
            found[cell] = dict(samples)
    return found


def scores_by_layer(
    samples: Mapping[str, Sequence[Watched]],
) -> Iterator[tuple[Method, int, NDArray[Any]]]:
    """For each policy and layer, quantiles of the scores that it gave, over the watched samples."""
    import numpy as np

    found: dict[tuple[Method, int], list[NDArray[Any]]] = defaultdict(list)
    for chosen in samples.values():
        for method, _, history in chosen:
            for place, layer in enumerate(history.layers):
                if history.scores.size:
                    found[method, layer].append(history.scores[place])
    for (method, layer), parts in found.items():
        yield method, layer, np.concatenate(parts)


def films(cell: Cell, samples: Mapping[str, Sequence[Watched]], run: Path) -> Iterator[Film]:
    """Yield films of video samples: kept tokens over the frames, a row for each policy."""
    from PIL import Image

    from namm_mm.results import drawing
    from namm_mm.runs.pictures import FOLDER as PICTURES

    made = 0
    for sample, chosen in samples.items():
        names = (record.media.frames for _, record, _ in chosen)
        file = next((run / PICTURES / Path(name).name for name in names if name), None)
        if made == FILMS or file is None or not file.is_file():
            continue
        with Image.open(file) as frames:
            rows = [(method.label, history) for method, _, history in chosen]
            pictures = list(drawing.film_pictures(frames, rows))
        name = f"{cell.task}-{made}.mp4"
        film = drawing.save_film(pictures, run / FOLDER / name)
        asked = chosen[0][1].asked
        caption = f"{sample}: {asked.question} {asked.right_answer}"
        yield film, caption
        made += 1


def episode_film(cell: Cell, samples: Mapping[str, Sequence[Watched]], run: Path) -> Film | None:
    """Render one episode under NAMM; None where nothing here can."""
    from namm_mm.results import episode_film as episodes
    from namm_mm.runs.history import FOLDER as HISTORIES

    for sample, chosen in samples.items():
        for method, record, history in chosen:
            if method.policy == NAMM and history.environment and history.rewards:
                file = run / HISTORIES / Path(record.media.history).name
                film = run / FOLDER / f"{cell.task}-episode.mp4"
                film.parent.mkdir(exist_ok=True)
                made = episodes.render(file, film)
                return None if made is None else (made, f"{sample}: {record.answer}")
    return None


def episode_figures(samples: Mapping[str, Sequence[Watched]]) -> Iterator[tuple[str, Any]]:
    """Figures of the first watched episode: for each policy the return and what was kept."""
    from namm_mm.results.episode_figure import episode_figure

    for chosen in list(samples.values())[:1]:
        for method, _, history in chosen:
            if history.rewards:
                yield method.label, episode_figure(history)
