"""Write samples as a WAV file of 16 bits."""

from __future__ import annotations

import io
import os
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_wav(path: Path, samples: NDArray[np.floating], rate: int) -> None:
    """Write (sample,) or (sample, channel) numbers in [-1, 1] as 16-bit WAV.

    Numbers beyond are clipped. The file appears under its name only when it is complete.

    Parameters
    ----------
    rate
        Samples per second.
    """
    values = np.clip(np.rint(np.asarray(samples) * 32767.0), -32768, 32767).astype("<i2")
    packed = io.BytesIO()
    with wave.open(packed, "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(values.tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.wav")
    unfinished.write_bytes(packed.getvalue())
    os.replace(unfinished, path)
