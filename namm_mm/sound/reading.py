"""Read a sound file: one channel of numbers at the rate that a model was trained on.

soundfile decodes WAV, FLAC, Ogg (Vorbis, Opus), MP3 and AIFF, and soxr resamples. Both are in the
extra ``speech``. What cannot be what the user meant is refused: no samples, not a number, a file
that is cut off, channels that cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from namm_mm.errors import RunError, message
from namm_mm.sound.ends import cut_off

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 16_000
"""Samples per second that Whisper's encoder, and all that build on it, were trained on."""

LOWEST_RATE = 4_000
"""Below, the sounds of speech are not in the file."""

LOUDEST = 16.0
"""Numbers of a float file beyond are no samples in [-1, 1]; a little beyond 1 is usual."""

PACKAGES = ("soundfile", "soxr")


@dataclass(frozen=True)
class Sound:
    """One sound, ready for a model.

    Attributes
    ----------
    samples
        (sample,) float32, one channel, about [-1, 1].
    rate
        Samples per second.
    """

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate


def missing_packages() -> str:
    """Return the packages that reading needs and that are not installed; empty if none is."""
    gone = [name for name in PACKAGES if find_spec(name) is None]
    if not gone:
        return ""
    return message(
        "sound files cannot be read",
        given=f"no package {' and '.join(gone)}",
        expected="the extra speech",
        then="Run `pip install 'namm-mm[speech]'`.",
    )


def read_sound(
    path: Path | str, *, rate: int = RATE, longest: float | None = None, then: str = ""
) -> Sound:
    """Return the sound of a file; several channels become their mean.

    Parameters
    ----------
    rate
        Samples per second to resample to.
    longest
        Seconds; a longer file is refused before it is decoded.
    then
        What to do about a file that is too long, for the message.

    Raises
    ------
    RunError
        The packages are not installed; or the file is missing, of another kind, empty, cut off, too
        long, holds what is no number, or has channels that cancel.
    """
    path = Path(path)
    if absent := missing_packages():
        raise RunError(absent)
    if not path.is_file():
        raise RunError(message("no such sound file", given=str(path), expected="a file"))
    if path.stat().st_size == 0:
        raise _wrong(path, "is empty", "0 bytes", "a sound")
    samples, found = _decoded(path, longest, then)
    if found != rate:
        import soxr

        samples = soxr.resample(samples, found, rate)
    return Sound(np.ascontiguousarray(samples, dtype=np.float32), rate)


def decode_sound(file: BinaryIO, rate: int = RATE) -> Samples:
    """Return (sample,) float32 numbers of an open sound file that we made, at `rate`."""
    if absent := missing_packages():
        raise RunError(absent)
    import soundfile
    import soxr

    numbers, found = soundfile.read(file, dtype="float32", always_2d=True)
    return np.asarray(soxr.resample(numbers.mean(axis=1), found, rate), dtype=np.float32)


def _decoded(path: Path, longest: float | None, then: str) -> tuple[Samples, int]:
    """Return (sample,) numbers and their rate."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate, stated = int(file.samplerate), int(file.frames)
            if rate < LOWEST_RATE:
                raise _wrong(
                    path,
                    "has too low a rate",
                    f"{rate} Hz",
                    f"{LOWEST_RATE} Hz or more",
                )
            if longest is not None and stated > longest * rate:
                raise _wrong(
                    path,
                    "is too long",
                    f"{stated / rate:.1f} seconds",
                    f"at most {longest:g}",
                    then,
                )
            numbers = file.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise _wrong(
            path,
            f"cannot be decoded ({error.error_string})",
            path.suffix or "no suffix",
            "WAV, FLAC, Ogg, MP3 or AIFF",
            f"Convert it: ffmpeg -i {path.name} -ac 1 -ar 16000 sound.wav",
        ) from error
    short = f"{len(numbers):,} of {stated:,} samples" if len(numbers) < stated else ""
    if why := short or cut_off(path):
        raise _wrong(path, "is cut off", why, "the whole file", "Copy or download it again.")
    if not len(numbers):
        raise _wrong(path, "holds no samples", "0 samples", "a sound")
    return _one_channel(path, numbers, rate), rate


def _one_channel(path: Path, numbers: NDArray[Any], rate: int) -> Samples:
    """Return the mean of the channels of (sample, channel) `numbers`."""
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if bad.size:
        raise _wrong(
            path,
            "holds what is no number",
            f"{bad.size:,} samples, the first after {bad[0] / rate:.3f} seconds",
            "finite samples",
        )
    loudest = float(np.abs(numbers).max())
    if loudest > LOUDEST:
        raise _wrong(
            path,
            "is not scaled",
            f"samples up to {loudest:g}",
            "float samples from -1 to 1",
            "Divide 16-bit numbers by 32768.",
        )
    mean: Samples = numbers.mean(axis=1, dtype=np.float32)
    if loudest > 1e-3 and float(np.abs(mean).max()) < 1e-3 * loudest:
        raise _wrong(
            path,
            "has channels that cancel each other",
            f"{numbers.shape[1]} channels with a mean of zero",
            "channels of one phase",
            f"Take one channel: ffmpeg -i {path.name} -af pan=mono|c0=c0 sound.wav",
        )
    return mean


def _wrong(path: Path, what: str, given: str, expected: str, then: str = "") -> RunError:
    return RunError(
        message(f"the sound {path.name!r} {what}", given=given, expected=expected, then=then)
    )
