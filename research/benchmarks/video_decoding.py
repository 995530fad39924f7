"""What right frames cost: decord alone, and `sample_frames`, on short and long files.

Files of numbered frames are written with PyAV. Every row reads the same frames of the same file:
decord without any check, our default, and our two backends where the file is not decoded whole.
Times are medians of processor seconds, all threads together, so that a busy machine counts little.
`right` is how many of the frames are those that were asked for.

    python research/benchmarks/video_decoding.py --output research/results/video_decoding.md
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
from numpy.typing import NDArray

from namm_mm.video import reading, sample_frames, uniform_indices

BITS = 14
RATE = 30


@dataclass(frozen=True)
class Film:
    """A file to write: its codec, options, size in pixels, and number of frames."""

    name: str
    codec: str
    width: int
    height: int
    frames: int
    options: tuple[tuple[str, str], ...] = ()

    def write(self, folder: Path) -> Path:
        """Encode numbered frames over moving noise."""
        path = folder / self.name
        noise = np.random.default_rng(0).integers(60, 190, (self.height, self.width), np.uint8)
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(self.codec, rate=RATE, options=dict(self.options))
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            for number in range(self.frames):
                picture = np.repeat(np.roll(noise, 3 * number, 1)[:, :, None], 3, 2)
                bar = self.width // BITS
                for bit in range(BITS):
                    light = 235 if number >> bit & 1 else 16
                    picture[: self.height // 2, bit * bar : (bit + 1) * bar] = light
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path


_CLOSED = (("g", "60"), ("bf", "2"), ("preset", "veryfast"))
FILMS = (
    Film("h264 2 s.mp4", "libx264", 320, 240, 60, _CLOSED),
    Film("h264 60 s.mp4", "libx264", 320, 240, 1800, _CLOSED),
    Film("h264 720p 10 s.mp4", "libx264", 1280, 720, 300, _CLOSED),
    Film("h264 720p 60 s.mp4", "libx264", 1280, 720, 1800, _CLOSED),
    Film(
        "h264 open GOP 20 s.mp4",
        "libx264",
        320,
        240,
        600,
        (("x264-params", "open-gop=1:keyint=15:bframes=3"), ("preset", "veryfast")),
    ),
    Film(
        "hevc open GOP 20 s.mp4",
        "libx265",
        320,
        240,
        600,
        (("x265-params", "log-level=none:keyint=15:bframes=3"), ("preset", "ultrafast")),
    ),
    Film("mpeg4 20 s.avi", "mpeg4", 320, 240, 600, (("g", "60"), ("bf", "2"))),
)


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    """Read the numbers that frames show."""
    bar = frames.shape[2] // BITS
    light = frames[:, : frames.shape[1] // 2].mean((1, 3))
    bits = [
        light[:, b * bar + bar // 4 : (b + 1) * bar - bar // 4].mean(1) > 126 for b in range(BITS)
    ]
    return [sum(int(bit[i]) << b for b, bit in enumerate(bits)) for i in range(len(frames))]


def decord_alone(path: Path, count: int) -> NDArray[np.uint8]:
    """Return evenly spaced frames as decord gives them, nothing checked."""
    reader = decord.VideoReader(str(path), num_threads=1)
    indices = uniform_indices(len(reader), count)
    return np.asarray(reader.get_batch(indices.tolist()).asnumpy())


@contextmanager
def _long() -> Iterator[None]:
    """Take every file for one that is too long to be decoded whole."""
    before, reading.WHOLE = reading.WHOLE, 0
    try:
        yield
    finally:
        reading.WHOLE = before


def _sought(backend: str) -> Callable[[Path, int], NDArray[np.uint8]]:
    def read(path: Path, count: int) -> NDArray[np.uint8]:
        with _long():
            return sample_frames(path, count, backend=backend).frames

    return read


WAYS: dict[str, Callable[[Path, int], NDArray[np.uint8]]] = {
    "decord alone": decord_alone,
    "sample_frames": lambda path, count: sample_frames(path, count).frames,
    "decord, proven": _sought("decord"),
    "PyAV, seeking": _sought("pyav"),
}


def measure(film: Film, folder: Path, count: int, rounds: int) -> list[str]:
    """Return the rows of one file."""
    path = film.write(folder)
    wanted = uniform_indices(film.frames, count).tolist()
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    right: dict[str, int] = {}
    for _ in range(rounds):
        for name, read in WAYS.items():
            start = time.process_time()
            frames = read(path, count)
            taken[name].append(time.process_time() - start)
            right[name] = sum(a == b for a, b in zip(numbers(frames), wanted, strict=True))
    whole = film.frames * film.width * film.height <= reading.WHOLE
    base = statistics.median(taken["decord alone"])
    rows = []
    for name, seconds in taken.items():
        middle = statistics.median(seconds)
        what = f"{name} ({'whole' if whole else 'parts'})" if name == "sample_frames" else name
        good = f"{right[name]} of {count}"
        rows.append(f"| {film.name} | {what} | {middle:.3f} | {middle / base:.2f} | {good} |")
    return rows


def main() -> None:
    """Measure, and write or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    lines = [
        f"# Reading {arguments.frames} frames of a video",
        "",
        f"Medians of {arguments.rounds} rounds, processor seconds, one thread. PyAV "
        f"{av.__version__}, decord2 {decord.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}. A file of at most {reading.WHOLE / 1e6:.0f} million pixels is "
        "decoded whole.",
        "",
        "| file | way | seconds | of decord alone | right frames |",
        "| --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for film in FILMS:
            lines += measure(film, Path(folder), arguments.frames, arguments.rounds)
            print(lines[-len(WAYS) :])
    text = "\n".join(lines) + "\n"
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
