"""Frames come out of real files, the same from every decoder, or an error says why not."""

from __future__ import annotations

import math
import os
import random
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.tasks.video_qa.encode import write_mp4
from namm_mm.video import BACKENDS, reading, sample_frames, uniform_indices
from namm_mm.video.clip import UnreadableError
from namm_mm.video.picture import upright


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
    if damage == "no_frame":
        assert "no frames" in str(caught.value)


def test_wrong_requests_are_usage_errors(clip: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        sample_frames(clip, 0)
    with pytest.raises(UsageError, match="Did you mean 'decord'"):
        sample_frames(clip, 4, backend="decrod")


@pytest.mark.parametrize(
    "name", ["ünïcode-ё-动画.mp4", "12:30 a%03d[1].mp4", "no_ending", "film.txt", "-v.mp4"]
)
@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_any_name_of_a_file_is_read(
    clip: Path, tmp_path: Path, name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(clip.read_bytes())
    (tmp_path / "link.mp4").symlink_to(name)
    right = sample_frames(clip, 4).frames
    assert np.array_equal(sample_frames(name, 4, backend=backend).frames, right)
    assert np.array_equal(sample_frames("link.mp4", 4, backend=backend).frames, right)


def test_a_name_that_is_no_unicode_is_read_or_refused(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(clip.read_bytes())
    assert sample_frames(path, 4).total == 50


@pytest.mark.parametrize("what", ["folder", "pipe", "dangling", "nul", "long", "forbidden"])
def test_what_is_no_readable_file_is_an_error_of_that_file(
    clip: Path, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "odd.mp4"
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "dangling":
        path.symlink_to(tmp_path / "gone.mp4")
    elif what == "nul":
        path = tmp_path / "odd\0.mp4"
    elif what == "long":
        path = tmp_path / ("odd" * 100 + ".mp4")
    elif what == "forbidden":
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
        path.write_bytes(clip.read_bytes())
        path.chmod(0)
    with pytest.raises(RunError, match="odd"):
        sample_frames(path, 4)


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w", format="mp3", options={"id3v2_version": "3"}) as container:
        sound = container.add_stream("mp3", rate=44100)
        cover = container.add_stream("png")
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        silence = av.AudioFrame.from_ndarray(
            np.zeros((2, 44100), np.int16), format="s16p", layout="stereo"
        )
        silence.sample_rate = 44100
        container.mux([*sound.encode(silence), *sound.encode()])
    with pytest.raises(RunError, match=r"song\.mp3' has no frames: got 'only the picture"):
        sample_frames(path, 4)


def test_reading_leaves_the_log_of_pyav_as_it_was(clip: Path) -> None:
    before = av.logging.get_level(), av.logging.get_skip_repeated()
    sample_frames(clip, 4)
    assert (av.logging.get_level(), av.logging.get_skip_repeated()) == before


def test_threads_hear_of_damage_in_their_own_file_alone(clip: Path, tmp_path: Path) -> None:
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]
    start, size = packets[20]
    data[start + 8 : start + size] = random.Random(0).randbytes(size - 8)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)

    def read(path: Path) -> bool:
        try:
            return sample_frames(path, 50).total == 50
        except RunError:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, [clip, broken] * 6)) == [True, False] * 6


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_file_is_read_from_its_key_frames(
    clip: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = sample_frames(clip, 12, sampling="ends")
    monkeypatch.setattr(reading, "WHOLE", 0)
    found = sample_frames(clip, 12, sampling="ends", backend=backend)
    assert found.backend == backend
    assert np.array_equal(found.frames, right.frames)
    assert np.array_equal(found.timestamps, right.timestamps)


@pytest.mark.parametrize(
    ("angle", "mirror", "filters"),
    [
        (0, False, ()),
        (90, False, (("transpose", "clock"),)),
        (180, False, (("hflip", None), ("vflip", None))),
        (270, False, (("transpose", "cclock"),)),
        (0, True, (("vflip", None),)),
    ],
)
def test_a_display_matrix_is_undone_as_ffmpeg_does(
    angle: int, mirror: bool, filters: tuple[tuple[str, str | None], ...]
) -> None:
    turn = math.radians(angle)
    sine, cosine = round(math.sin(turn) * 65536), round(math.cos(turn) * 65536)
    matrix = struct.pack("=9i", cosine, sine, 0, -sine, -cosine if mirror else cosine, 0, 0, 0, 1)
    assert upright(matrix) == filters
    assert upright(b"") == ()


def test_a_crooked_video_is_refused() -> None:
    with pytest.raises(UnreadableError, match="45 degrees"):
        upright(struct.pack("=9i", 46341, 46341, 0, -46341, 46341, 0, 0, 0, 1))
