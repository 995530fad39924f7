"""Published video benchmarks as files: archives, what is not here, and wrong requests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import av
import benchmark_folders
import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.records import FRAME_MARK
from namm_mm.tasks.longvideobench import LongVideoBenchTask
from namm_mm.tasks.mlvu import MlvuTask
from namm_mm.tasks.video_benchmarks import files
from namm_mm.tasks.video_mme import VideoMmeTask
from namm_mm.video import frame_count


@pytest.fixture(scope="module")
def lvb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folders.save_longvideobench(tmp_path_factory.mktemp("lvb"))


@pytest.fixture(scope="module")
def mme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return benchmark_folders.save_video_mme(tmp_path_factory.mktemp("mme"))


def test_archives_in_the_hub_cache_are_unpacked_once(
    tmp_path: Path, lvb: Path, mme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "lvb_val.json").write_bytes((lvb / "lvb_val.json").read_bytes())
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        tar.add(lvb / "videos", "videos")
    middle = len(whole.getvalue()) // 2 + 7
    for name, part in (("aa", whole.getvalue()[:middle]), ("ab", whole.getvalue()[middle:])):
        (snapshot / f"videos.tar.part.{name}").write_bytes(part)
    with tarfile.open(snapshot / "subtitles.tar", "w") as tar:
        tar.add(lvb / "subtitles", "subtitles")
    with zipfile.ZipFile(snapshot / "more.zip", "w") as archive:
        archive.write(mme / "data" / "aaa.mp4", "data/aaa.mp4")
    found = files._roots
    monkeypatch.setattr(files, "_roots", lambda published: [*found(published), snapshot])
    task = LongVideoBenchTask(subtitles=True)
    assert task.outlook("validation").downloads[0].cached
    samples = task.samples("validation", None, 0)
    target = tmp_path / "ours" / "benchmarks" / "LongVideoBench"
    assert samples[0].video == target / "videos" / "one.mp4"
    assert samples[0].video.read_bytes() == (lvb / "videos" / "one.mp4").read_bytes()
    assert (target / "data" / "aaa.mp4").is_file()
    before = samples[0].video.stat().st_mtime_ns
    samples[0].video.write_bytes(b"marked")
    task.samples("validation", None, 0)
    assert samples[0].video.read_bytes() == b"marked", "unpacked a second time"
    assert before


def test_a_benchmark_that_is_not_here_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "ours"))
    with pytest.raises(RunError) as caught:
        LongVideoBenchTask().samples("validation", None, 0)
    for words in (
        "longvideobench/LongVideoBench",
        "lvb_val.json",
        str(tmp_path / "datasets" / "longvideobench"),
        "hf download --repo-type dataset longvideobench/LongVideoBench",
        "task.download=true",
        "hf auth login",
    ):
        assert words in str(caught.value)
    with pytest.raises(RunError, match=r"cannot get sy1998/MLVU_dev .* with a network"):
        MlvuTask(download=True).samples("validation", None, 0)
    outlook = VideoMmeTask().outlook("test")
    assert (outlook.samples, outlook.downloads[0].cached) == (2700, False)


def test_wrong_requests_are_usage_errors(tmp_path: Path, lvb: Path, mme: Path) -> None:
    for make, words in (
        (lambda: LongVideoBenchTask(unparsable="guess"), "unknown treatment"),
        (lambda: LongVideoBenchTask(source=str(tmp_path / "no")), "no such folder"),
        (lambda: LongVideoBenchTask(frames=0), "1 or more"),
        (lambda: MlvuTask(letters="six"), "Known: all, four"),
        (lambda: VideoMmeTask(subtitle_order="tme"), "Did you mean 'time'"),
    ):
        with pytest.raises(UsageError, match=words):
            make()
    with pytest.raises(UsageError, match=r"a folder that holds lvb_val\.json"):
        LongVideoBenchTask(source=str(tmp_path)).samples("validation", None, 0)
    (tmp_path / "lvb_val.json").write_text("[1")
    with pytest.raises(UsageError, match=r"cannot read .*lvb_val\.json"):
        LongVideoBenchTask(source=str(tmp_path)).samples("validation", None, 0)
    (tmp_path / "lvb_val.json").write_text('[{"id": "x", "question": "?"}]')
    with pytest.raises(UsageError, match="row 1: the field 'video_path' is missing"):
        LongVideoBenchTask(source=str(tmp_path)).samples("validation", None, 0)
    with pytest.raises(UsageError, match="Known: long, short"):
        VideoMmeTask(source=str(mme), families=["medium"]).samples("test", None, 0)
    with pytest.raises(UsageError, match="Did you mean 'validation'"):
        LongVideoBenchTask(source=str(lvb)).samples("valid", None, 0)
    without = benchmark_folders.save_longvideobench(tmp_path / "more")
    (without / "subtitles" / "one_en.json").unlink()
    task = LongVideoBenchTask(source=str(without), subtitles=True)
    samples = task.samples("validation", None, 0)
    assert samples[0].prompt.startswith(f"{FRAME_MARK}\n{FRAME_MARK}\n{FRAME_MARK}\nWhat")
    assert "2 of 6 questions are asked without subtitles." in task.notices(samples)
    (without / "subtitles" / "one_en.json").write_text("{")
    broken = [sample for sample in task.samples("validation", None, 0) if sample.fault]
    assert len(broken) == 2
    assert all("task.subtitles=false" in sample.fault for sample in broken)


def test_frames_of_matroska_are_counted(tmp_path: Path) -> None:
    benchmark_folders.save_clip(tmp_path / "a.mp4", frames=12)
    with (
        av.open(str(tmp_path / "a.mp4")) as old,
        av.open(str(tmp_path / "a.mkv"), "w") as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert frame_count(tmp_path / "a.mp4") == frame_count(tmp_path / "a.mkv") == (12, 4.0)
    with pytest.raises(RunError, match=r"length of the video 'b\.mkv'"):
        frame_count(tmp_path / "b.mkv")
