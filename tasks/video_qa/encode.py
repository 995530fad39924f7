"""Write frames as a real video file: MP4, H.264, 4:2:0."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_mp4(
    path: Path, frames: Iterable[NDArray[np.uint8]], *, rate: int, quality: int = 20
) -> None:
    """Encode (height, width, 3) RGB frames with libx264, B-frames included.

    The file appears under its name only when it is complete, so that a killed run leaves no half
    video behind. `quality` is x264's CRF: lower is better.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    with av.open(str(unfinished), "w") as container:
        stream = None
        for picture in frames:
            if stream is None:
                options = {"crf": str(quality), "preset": "veryfast", "bf": "2", "threads": "1"}
                # On pictures this small, x264's assembly gives now and then other bytes.
                options["x264-params"] = "no-asm=1"
                stream = container.add_stream("libx264", rate=rate, options=options)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
    os.replace(unfinished, path)
