"""Frames come out of real files, the same from every decoder, or an error says why not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.tasks.video_qa.encode import write_mp4
from namm_mm.video import BACKENDS, sample_frames, uniform_indices


def moving_bar(count: int) -> list[np.ndarray]:
    """Frames that all differ: a bar that moves, in a colour that changes."""
    frames = np.zeros((count, 48, 64, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index % 60 : index % 60 + 4] = (250, 5 * index % 255, 40)
        frame[index % 40 : index % 40 + 6] |= 60
    return list(frames)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "bar.mp4"
    write_mp4(path, moving_bar(50), rate=10)
    return path


def rewrapped(source: Path, target: Path, **options: str) -> Path:
    """The same packets in a new container."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    return target


def test_both_decoders_give_the_same_frames_of_a_clip_with_b_frames(clip: Path) -> None:
    with av.open(str(clip)) as container:
        times = [p.pts for p in container.demux(video=0) if p.pts is not None]
        assert times != sorted(times), "no B-frames to test"
    ours = {name: sample_frames(clip, 16, backend=name) for name in BACKENDS}
    assert np.array_equal(ours["decord"].frames, ours["pyav"].frames)
    assert np.allclose(ours["decord"].timestamps, ours["pyav"].timestamps)
    assert ours["pyav"].timestamps == pytest.approx(uniform_indices(50, 16) / 10)
    wanted = np.stack(moving_bar(50))[uniform_indices(50, 16)].astype(int)
    errors = [
        np.abs(ours["pyav"].frames - other).mean() for other in (wanted, np.roll(wanted, 1, 0))
    ]
    assert errors[0] < 8 < errors[1], "these are other frames than were asked for"


def test_a_short_video_gives_each_frame_once_and_says_so(clip: Path) -> None:
    found = sample_frames(clip, 64)
    assert (len(found.frames), found.total, found.requested) == (50, 50, 64)
    assert found.indices.tolist() == list(range(50))


def test_sampling_is_even_and_starts_at_the_first_frame() -> None:
    assert uniform_indices(64, 32).tolist() == list(range(0, 64, 2))
    assert uniform_indices(10, 4).tolist() == [0, 2, 5, 7]


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("damage", ["missing", "empty", "text", "no_index", "no_tail", "no_frame"])
def test_a_broken_video_is_an_error_that_names_the_file(
    clip: Path, tmp_path: Path, backend: str, damage: str
) -> None:
    path = tmp_path / "broken.mp4"
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a video at all\n" * 40)
    elif damage == "no_index":  # the index is at the end: nothing can be read without it
        path.write_bytes(clip.read_bytes()[:-400])
    elif damage == "no_tail":  # the index is at the front, and promises frames that are gone
        whole = rewrapped(clip, tmp_path / "whole.mp4", movflags="faststart")
        with av.open(str(whole)) as container:
            ends = [(p.pos or 0) + p.size for p in container.demux(video=0) if p.size]
        path.write_bytes(whole.read_bytes()[: ends[30]])
    elif damage == "no_frame":  # sound only
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16000)
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 16000), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate = 16000
            for packet in (*stream.encode(silence), *stream.encode()):
                container.mux(packet)
    with pytest.raises(RunError, match=r"broken\.mp4") as caught:
        sample_frames(path, 8, backend=backend)
    assert ("no such" in str(caught.value)) == (damage == "missing")
    if damage == "no_frame" and backend != "decord":
        assert "no frames" in str(caught.value)


def test_wrong_requests_are_usage_errors(clip: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        sample_frames(clip, 0)
    with pytest.raises(UsageError, match="Did you mean 'decord'"):
        sample_frames(clip, 4, backend="decrod")
