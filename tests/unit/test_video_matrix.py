"""Frames, their order, their number and their times are ffmpeg's own, or the file is refused.

The truth is what the command line of ffmpeg decodes. Where it complains of a file, an error is
right too; of a file that was cut off or damaged, nothing else is then. (ffmpeg itself may pass over
damage: AV1 decodes noise, and the end of a stream is nowhere promised.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from video_files import FFMPEG, FRAMES, Truth, number, truth
from video_matrix import ENCODED, NAMES, Shelf

from namm_mm.errors import RunError
from namm_mm.video import Clip, reading, sample_frames, uniform_indices

ALWAYS = (
    *("h264.mp4", "h264_open.mp4", "h264_refresh.mp4", "h264.ts", "hevc.mp4", "mpeg2.mpg"),
    *("mpeg4.avi", "wmv2.wmv", "vp9.webm", "uneven.mkv", "h264_10bit.mp4"),
    *("edit_head.mp4", "edit_tail.mp4", "turned_90.mp4", "turned_180.mp4", "turned_270.mov"),
    *("sound_first.mkv", "two_large_second.mp4", "cover_first.mp4", "clock_restarts.mpg"),
    *("cut_h264.mkv", "cut_vp9.webm", "zeroed_hevc.mp4", "zeroed_mpeg4.avi", "noise_h264.mp4"),
)
"""What runs in every run of the tests: each case that was met in the field."""

WAYS = (
    ("auto", FRAMES, reading.WHOLE),
    ("decord", 8, reading.WHOLE),
    ("auto", 8, 0),
    ("pyav", FRAMES, 0),
)
"""Backend, frames that are asked for, and pixels up to which a file is decoded whole."""

WRONG = ("cut_", "zeroed_", "noise_", "late_")

pytestmark = pytest.mark.skipif(FFMPEG is None, reason="ffmpeg is not installed, the truth here")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("videos"))


def same(clip: Clip, right: Truth, indices: np.ndarray) -> str:
    """What differs between a clip and the truth; empty if nothing does."""
    if clip.total != len(right.frames):
        return f"{clip.total} frames of {len(right.frames)}"
    if clip.frames.shape != right.frames[indices].shape:
        return f"shape {clip.frames.shape}, not {right.frames[indices].shape}"
    numbers = [number(frame) for frame in clip.frames], [number(f) for f in right.frames[indices]]
    if numbers[0] != numbers[1]:
        return f"frames {numbers[0]}, not {numbers[1]}"
    off = np.abs(clip.frames.astype(int) - right.frames[indices]).mean()
    if off > 1:  # bit by bit with equal libraries; other versions round otherwise
        return f"pixels are off by {off}"
    if len(right.times) == clip.total:
        late = np.abs(clip.timestamps - np.asarray(right.times)[indices]).max()
        if late > 0.002:
            return f"times are off by {late}"
    return ""


def check(shelf: Shelf, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a file in every way, and compare."""
    if missing := shelf.missing_encoder(name):
        pytest.skip(f"this ffmpeg has no encoder {missing}")
    path = shelf.path(name)
    right = truth(path)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # with one thread PyAV is the faster
    for backend, count, whole in WAYS:
        if right.complaints and not whole:
            continue  # of a long file only what leads to its frames is decoded, and looked at
        monkeypatch.setattr(reading, "WHOLE", whole)
        indices = uniform_indices(len(right.frames), count)
        try:
            clip = sample_frames(path, count, backend=backend)
        except RunError as error:
            if right.complaints or name.startswith(WRONG):
                continue
            raise AssertionError("ffmpeg reads it without a complaint") from error
        assert not (right.complaints and name.startswith(WRONG)), f"read by {backend}, not refused"
        wrong = same(clip, right, indices)
        assert not wrong, f"{backend} as {clip.backend}, {count} frames, whole to {whole}: {wrong}"
        if name in ENCODED:
            assert [number(frame) for frame in clip.frames] == indices.tolist()


@pytest.mark.parametrize("name", ALWAYS)
def test_frames_and_times_are_those_of_ffmpeg(
    shelf: Shelf, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(shelf, name, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALWAYS])
def test_frames_and_times_are_those_of_ffmpeg_in_the_whole_matrix(
    shelf: Shelf, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(shelf, name, monkeypatch)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("h264_open.mp4", [0, 7, 15, 22, 30, 37, 45, 52]),
        ("edit_head.mp4", [15, 20, 26, 31, 37, 43, 48, 54]),
        ("edit_tail.mp4", [54, 55, 56, 57, 58, 59]),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "decord", "pyav"])
def test_the_frames_that_were_asked_for_are_given(
    shelf: Shelf, name: str, shown: list[int], backend: str
) -> None:
    clip = sample_frames(shelf.path(name), 8, backend=backend)
    assert [number(frame) for frame in clip.frames] == shown
    assert clip.timestamps.min() >= 0
    assert (np.diff(clip.timestamps) > 0).all()


@pytest.mark.parametrize("name", ["turned_90.mp4", "turned_270.mov"])
@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_a_turned_video_is_upright(shelf: Shelf, name: str, backend: str) -> None:
    clip = sample_frames(shelf.path(name), 8, backend=backend)
    assert clip.frames.shape == (8, 128, 96, 3)


def test_decord_reads_what_it_is_proven_right_for_and_nothing_else(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WHOLE", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # with one thread PyAV is the faster
    used = {
        name: sample_frames(shelf.path(name), 8).backend
        for name in ("h264.mp4", "h264.mkv", "h264_open.mp4", "turned_90.mp4", "edit_tail.mp4")
    }
    assert used == {
        "h264.mp4": "decord",
        "h264.mkv": "decord",
        "h264_open.mp4": "pyav",
        "turned_90.mp4": "pyav",
        "edit_tail.mp4": "pyav",
    }


def test_damage_where_a_long_file_is_decoded_is_found(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """decord conceals it, and is heard; PyAV then says what it is."""
    monkeypatch.setattr(reading, "WHOLE", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for _ in range(2):  # libav does not repeat a line
        with pytest.raises(RunError, match=r"is damaged|h264: "):
            sample_frames(shelf.path("noise_h264.mp4"), FRAMES)
