"""Video files of numbered frames, made by ffmpeg's encoders, and what ffmpeg decodes of them.

Every frame carries its own number as black and white bars, so that a wrong frame is known by sight:
a white bar, six bits, a black bar. A coloured band below tells which way is up.
"""

from __future__ import annotations

import random
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FFMPEG = shutil.which("ffmpeg")
WIDTH, HEIGHT, FRAMES, RATE = 128, 96, 60, 30
BARS = 8


def numbered(index: int) -> NDArray[np.uint8]:
    """Frame `index`."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bits = [1, *(index >> bit & 1 for bit in range(BARS - 3, -1, -1)), 0]
    bar, foot = WIDTH // BARS, HEIGHT * 3 // 4
    for place, bit in enumerate(bits):
        frame[:foot, place * bar : (place + 1) * bar] = 235 if bit else 16
    frame[foot:] = (60, 120, 180)
    left = index * 2 % (WIDTH - 16)
    frame[foot : foot + HEIGHT // 6, left : left + 16] = (220, 40, 40)
    return frame


def number(frame: NDArray[np.uint8]) -> int:
    """The number that the bars of an upright frame show; -1 if they show none."""
    height, width = frame.shape[:2]
    bar = width // BARS
    light = frame[: height * 5 // 8].mean(axis=(0, 2))
    seen = [light[i * bar + bar // 4 : (i + 1) * bar - bar // 4].mean() > 128 for i in range(BARS)]
    if not seen[0] or seen[-1]:
        return -1
    return int(sum(int(bit) << (BARS - 3 - place) for place, bit in enumerate(seen[1:-1])))


def ffmpeg(*arguments: str | Path, feed: bytes | None = None) -> None:
    """Run ffmpeg, or raise with what it says."""
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", "-nostdin" if feed is None else "-hide_banner"]
    done = subprocess.run(
        [*command, *map(str, arguments)], input=feed, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace")[-500:])


@cache
def encoders() -> frozenset[str]:
    """The encoders that this build of ffmpeg has."""
    if FFMPEG is None:
        return frozenset()
    listed = subprocess.run(
        [FFMPEG, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True
    )
    return frozenset(re.findall(r"^ [VAS]\S{5} (\S+)", listed.stdout, re.MULTILINE))


def encode(path: Path, options: str, numbers: Sequence[int] = range(FRAMES)) -> None:
    """Write numbered frames with ffmpeg's options."""
    raw = b"".join(numbered(i).tobytes() for i in numbers)
    source = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r {RATE} -i -"
    ffmpeg(*shlex.split(source), *shlex.split(options), path, feed=raw)


@dataclass(frozen=True)
class Truth:
    """What ffmpeg decodes: frames, their times in seconds, and whether it complained."""

    frames: NDArray[np.uint8]
    times: tuple[float, ...]
    complaints: tuple[str, ...]


def truth(path: Path) -> Truth:
    """Decode a file with ffmpeg's command line.

    What the conversion to RGB says of its pixel format, and what is said of the output's
    timestamps, is no complaint about the file.
    """
    assert FFMPEG is not None
    options = "-an -sn -dn -fps_mode passthrough -vf showinfo -pix_fmt rgb24 -f rawvideo -"
    done = subprocess.run(
        [
            FFMPEG,
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "level+info",
            "-i",
            path,
            *options.split(),
        ],
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace")
    size = re.search(r"Video: rawvideo.*?, (\d+)x(\d+)", said)
    width, height = map(int, size.groups()) if size else (0, 0)
    whole = len(done.stdout) // max(width * height * 3, 1)
    frames = np.frombuffer(done.stdout, np.uint8, whole * width * height * 3)
    wrong = [
        line
        for line in said.splitlines()
        if re.search(r"\[(warning|error|fatal)\]", line)
        and "swscaler" not in line
        and "[rawvideo @" not in line
    ]
    return Truth(
        frames.reshape(whole, height, width, 3),
        tuple(map(float, re.findall(r"showinfo.* n: *\d+ .*?pts_time:(\S+)", said))),
        tuple(wrong or ([said[-200:]] if done.returncode else [])),
    )


def damage(data: bytes, path: Path, packet: int, how: str) -> bytes:
    """`data` of the file at `path` with one packet of its video ``zeroed`` or made ``noise``."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        start, body = packets[packet].pos or 0, bytes(packets[packet])
    at = data.find(body)
    if at < 0:  # in pieces: MPEG streams, Ogg
        at, body = start + 40, body[:100]
    skip = 0 if how == "zeroed" else len(body) // 3
    size = len(body) - skip
    new = bytes(size) if how == "zeroed" else random.Random(packet).randbytes(size)
    return data[: at + skip] + new + data[at + skip + size :]
