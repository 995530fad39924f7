"""Films of watched samples: what was kept of a video's frames, and an episode rendered again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from namm_mm.results.cells import NAMM, Cell
from namm_mm.results.drawing import film_pictures, save_film
from namm_mm.results.episode_film import render
from namm_mm.results.watched import Watched
from namm_mm.runs.history import FOLDER as HISTORIES
from namm_mm.runs.pictures import FOLDER as PICTURES

FOLDER = "films"

FILMS = 4
"""Video samples of one cell that get a film. One episode is rendered, since that takes long."""

Film = tuple[Path, str]
"""A file and its caption."""


def films(cell: Cell, samples: Mapping[str, Sequence[Watched]], run: Path) -> Iterator[Film]:
    """Yield films of video samples: kept tokens over the frames, a row for each policy."""
    from PIL import Image

    made = 0
    for sample, chosen in samples.items():
        names = (record.media.frames for _, record, _ in chosen)
        file = next((run / PICTURES / Path(name).name for name in names if name), None)
        if made == FILMS or file is None or not file.is_file():
            continue
        with Image.open(file) as frames:
            rows = [(method.label, history) for method, _, history in chosen]
            pictures = list(film_pictures(frames, rows))
        film = save_film(pictures, run / FOLDER / f"{cell.task}-{made}.mp4")
        asked = chosen[0][1].asked
        yield film, f"{sample}: {asked.question} {asked.right_answer}"
        made += 1


def episode_film(cell: Cell, samples: Mapping[str, Sequence[Watched]], run: Path) -> Film | None:
    """Render one episode under NAMM; None where this machine cannot."""
    for sample, chosen in samples.items():
        for method, record, history in chosen:
            if method.policy == NAMM and history.environment and history.rewards:
                file = run / HISTORIES / Path(record.media.history).name
                film = run / FOLDER / f"{cell.task}-episode.mp4"
                film.parent.mkdir(exist_ok=True)
                made = render(file, film)
                return None if made is None else (made, f"{sample}: {record.answer}")
    return None
