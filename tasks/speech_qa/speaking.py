"""Let espeak-ng say something: (sample,) numbers at 16 kHz, without silence around them."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from namm_mm.errors import RunError, message
from namm_mm.sound import decode_sound
from namm_mm.sound.reading import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROGRAM = "espeak-ng"
LEVEL = 0.08
"""Root mean square of everything that is said."""

_QUIET = 0.01
"""Part of the loudest sample below which a voice is silent."""


@dataclass(frozen=True)
class Voice:
    """Who speaks, and how.

    Attributes
    ----------
    name
        Of espeak-ng: an accent and a variant, ``en-us+f3``.
    speed
        Words in a minute.
    pitch
        From 0 to 99.
    """

    name: str
    speed: int = 150
    pitch: int = 50


def missing_program() -> str:
    """Return what to install where espeak-ng is not here; empty where it is."""
    if shutil.which(PROGRAM):
        return ""
    return message(
        "the program that speaks is not installed",
        given=f"no {PROGRAM} on the path",
        expected="espeak-ng 1.50 or newer",
        then="Run `apt-get install espeak-ng` (macOS: `brew install espeak-ng`), or ask about "
        "sound files of your own with task.source=FOLDER.",
    )


@lru_cache(maxsize=1)
def version() -> str:
    """Return the version of espeak-ng; another one may speak otherwise."""
    return _run(["--version"]).decode(errors="replace").split(" Data at")[0].split(":")[-1].strip()


@lru_cache(maxsize=4096)
def say(text: str, voice: Voice) -> NDArray[np.float32]:
    """Return the sound of `text`, (sample,) float32 at 16 kHz, all of one loudness.

    Raises
    ------
    RunError
        The program is not installed, or does not know the voice.
    """
    wav = _run(["-v", voice.name, "-s", str(voice.speed), "-p", str(voice.pitch), "--stdout", text])
    samples = decode_sound(io.BytesIO(wav), RATE)
    loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    found = np.asarray(samples * (LEVEL / np.sqrt(np.mean(samples**2))), dtype=np.float32)
    found.flags.writeable = False
    return found


def _run(words: list[str]) -> bytes:
    if absent := missing_program():
        raise RunError(absent)
    done = subprocess.run([PROGRAM, *words], capture_output=True)
    if done.returncode or not done.stdout:
        raise RunError(
            message(
                f"{PROGRAM} said nothing ({done.stderr.decode(errors='replace').strip()[:200]})",
                given=" ".join(words),
                expected="a sound",
            )
        )
    return done.stdout
