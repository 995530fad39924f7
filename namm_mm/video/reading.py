"""Frames of a video file, by the decoder that is proven right for it.

A file that is cheap to decode is decoded whole, which alone shows that it is undamaged. Of a longer
one only what leads to the wanted frames is decoded: by decord, with several threads, where it is
known to give the frames that ffmpeg gives, by PyAV otherwise. Where neither can start in the
middle, it is decoded whole.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from namm_mm.errors import RunError, UsageError, message
from namm_mm.video import with_decord, with_pyav
from namm_mm.video.clip import Clip, Decoded, NoFramesError, UnprovenError, UnreadableError
from namm_mm.video.sampling import SAMPLINGS
from namm_mm.video.scan import Scan, look

BACKENDS = ("decord", "pyav")

WHOLE = 300_000_000
"""Pixels up to which a file is decoded whole: at 30/s 130 s of 320 x 240, 5 s of 1920 x 1080."""


def available_backends() -> tuple[str, ...]:
    """The decoders that are installed, in order of preference."""
    modules = {"decord": "decord", "pyav": "av"}
    return tuple(name for name in BACKENDS if find_spec(modules[name]) is not None)


def sample_frames(
    path: str | Path, count: int, *, backend: str = "auto", sampling: str = "even"
) -> Clip:
    """Read `count` frames, spread evenly over a video.

    Parameters
    ----------
    path
        Any file that FFmpeg reads.
    count
        How many frames; a shorter video gives all it has, and the clip says so.
    backend
        ``decord``, ``pyav``, or ``auto``. All give the same frames. decord decodes what it is
        proven right for, and PyAV the rest, whatever is asked for; the clip says who did.
    sampling
        One of :data:`~namm_mm.video.SAMPLINGS`.

    Returns
    -------
    Clip
        The frames, in order of time.

    Raises
    ------
    UsageError
        `count` is below 1, or the backend or the sampling is unknown or not installed.
    RunError
        The file is missing, truncated or corrupt, or holds no video frames.
    """
    _check_request(count, backend, sampling)
    file = _existing(Path(path))
    try:
        scan = look(file)
        read, name = _read(scan, count, backend, sampling)
        return Clip(**read._asdict(), requested=count, backend=name, rate=scan.rate)
    except NoFramesError as error:
        raise RunError(
            message(
                f"the video {str(file)!r} has no frames",
                given=str(error),
                expected="a file with a video stream of at least one frame",
            )
        ) from error
    except Exception as error:  # libav has errors of its own, few of them documented
        raise _unreadable(file, error) from error


def _read(scan: Scan, count: int, backend: str, sampling: str) -> tuple[Decoded, str]:
    """Choose the way, and return who went it."""
    whole = scan.pixels <= WHOLE or not scan.seekable
    try:
        faster = not whole and with_decord.threads() > 1
        preferred = backend == "decord" or (backend == "auto" and faster)
        if preferred and with_decord.is_right(scan):
            if whole:
                with_pyav.check_whole(scan)
            return with_decord.read(scan, count, sampling), "decord"
    except UnprovenError:
        pass
    try:
        if not whole:
            return with_pyav.read_seeking(scan, count, sampling), "pyav"
    except UnprovenError:
        pass
    return with_pyav.read_whole(scan, count, sampling), "pyav"


def _check_request(count: int, backend: str, sampling: str) -> None:
    if count < 1:
        raise UsageError(message("wrong number of frames", given=count, expected="at least 1"))
    if sampling not in SAMPLINGS:
        raise UsageError(
            message("unknown sampling", given=sampling, expected="a known one", valid=SAMPLINGS)
        )
    if backend != "auto" and backend not in BACKENDS:
        raise UsageError(
            message(
                "unknown video backend",
                given=backend,
                expected="auto, or the name of a decoder",
                valid=BACKENDS,
            )
        )
    installed = available_backends()
    if "pyav" not in installed or (backend != "auto" and backend not in installed):
        raise UsageError(
            message(
                "video backend not installed",
                given=backend,
                expected="PyAV, and decord beside it if it is asked for",
                then="`pip install decord2 av` installs both; `namm-mm doctor` checks them.",
            )
        )


def _existing(file: Path) -> Path:
    """Return the path if a file is there that can be opened."""
    try:
        if file.is_dir():
            what, wanted = "the video is a folder", "a file"
        elif not file.exists():
            what, wanted = "no such video", "an existing video file"
        elif not file.is_file():
            what, wanted = "the video is a device, a pipe or a socket", "a file"
        else:
            with file.open("rb"):
                return file
    except (OSError, ValueError) as error:  # no permission, a name that is too long or has a NUL
        what, wanted = f"cannot open the video ({error})", "a file that can be read"
    raise RunError(
        message(
            what,
            given=str(file),
            expected=wanted,
            then="Check the path, or the `video` field of its question.",
        )
    )


def _unreadable(file: Path, error: Exception) -> RunError:
    said = str(error).strip().partition("\n")[0][:200]
    reason = said if isinstance(error, UnreadableError) else f"{type(error).__name__}: {said}"
    try:
        size = f"{file.stat().st_size} bytes"
    except OSError as gone:
        size = str(gone)
    return RunError(
        message(
            f"cannot read the video {str(file)!r} ({reason})",
            given=size,
            expected="a complete video file",
            then="It may be truncated, damaged or no video at all: copy or render it again, "
            "and see if `ffmpeg -v warning -i FILE -f null -` stays silent.",
        )
    )
