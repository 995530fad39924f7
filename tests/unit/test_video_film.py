"""Streamed films and long videos: each question is answered as about a video that ends there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import video_checkpoints

from namm_mm.adapters.common.answering import by_options
from namm_mm.adapters.common.choices import LETTERS
from namm_mm.adapters.video.film import FilmAdapter
from namm_mm.errors import RunError, UsageError
from namm_mm.memory import attach
from namm_mm.memory.watch import Update
from namm_mm.policies import create
from namm_mm.records import Answer, Inputs, Sample
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.tasks.video_qa.film import FilmQaTask
from namm_mm.tasks.video_qa.scenes import SLOTS
from namm_mm.video import sample_frames

pytestmark = pytest.mark.numeric

FRAMES, INTERVAL = 16, 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("film")


@pytest.fixture(scope="module")
def adapter(folder: Path) -> FilmAdapter:
    video_checkpoints.save_checkpoint(folder / "model", "llava_next_video")
    found = FilmAdapter(
        model=str(folder / "model"), frames=FRAMES, dtype="float32", device="cpu", encode_once=True
    )
    found.load()
    return found


@pytest.fixture(scope="module")
def film(folder: Path) -> Sample:
    return FilmQaTask(slots=FRAMES, moments=2, cache=str(folder)).samples("test", 1, 0)[0]


def ended(adapter: FilmAdapter, inputs: Inputs, moment: int) -> tuple[Inputs, list[int]]:
    """A video that ends at a moment, with its question after it, and the tokens compared."""
    sample, at = inputs.sample, inputs.sample.moments[moment]
    asked = Sample("s", "f", question=at.question, options=at.options)
    prompt = adapter.prompt(asked)
    ids, frames = adapter.loaded.encode(prompt), inputs.details["frames_before_questions"][moment]
    place = ids.index(adapter.loaded.placeholder_token)
    clip = [ids[place]] * (frames * inputs.details["tokens_per_frame"])
    tokens = torch.tensor([[*ids[:place], *clip, *ids[place + 1 :]]])
    pixels = inputs.tensors["pixel_values_videos"][:, :frames]
    tensors = {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "pixel_values_videos": pixels,
    }
    compared = adapter.loaded.first_tokens(prompt, LETTERS[: len(at.options)])
    whole = replace(sample, options=at.options)
    return Inputs(tensors, (*inputs.token_types, *inputs.token_types), whole), compared


@pytest.mark.parametrize("name", ["recency", "h2o"])
def test_a_question_is_answered_as_about_a_video_that_ends_there(
    adapter: FilmAdapter, film: Sample, name: str
) -> None:
    inputs = adapter.prepare(film)
    with attach(adapter.backbone, create(name, budget=0.4), interval=INTERVAL) as memory:
        found = adapter.answer(inputs, memory)
        held = memory.usage()
    assert held.seen == len(inputs.token_types)
    assert held.updates == held.seen // INTERVAL > 2
    assert held.tokens_final < 0.7 * held.seen
    for moment, said in enumerate(found.text.splitlines()):
        alone, compared = ended(adapter, inputs, moment)
        with (
            attach(adapter.backbone, create(name, budget=0.4), interval=INTERVAL) as memory,
            torch.no_grad(),
        ):
            other = by_options(adapter.loaded, alone, memory, compared)
        assert said == other.text
        ours = found.log_probabilities[4 * moment : 4 * moment + 4]
        assert ours == pytest.approx(other.log_probabilities, abs=1e-4)


def test_a_watcher_is_told_of_the_film_and_not_of_questions(
    adapter: FilmAdapter, film: Sample
) -> None:
    inputs, told = adapter.prepare(film), list[Update]()
    policy = create("recency", budget=0.5)
    with attach(adapter.backbone, policy, interval=5, watcher=told.append) as memory:
        adapter.answer(inputs, memory)
        updates = memory.usage().updates
    layers = {update.layer for update in told}
    assert [one.seen for one in told if one.layer == 0] == [5 * n for n in range(1, updates + 1)]
    assert len(told) == len(layers) * updates


def test_questions_are_about_what_was_shown_by_then(folder: Path) -> None:
    task = FilmQaTask(slots=64, moments=4)
    letters = set()
    for number in range(30):
        scene, asked = task.film("train", 0, number)
        assert len(scene.events) == 5
        assert [end for end, _ in asked] == [16, 32, 48, 64]
        for end, question in asked:
            shown = [e for e in scene.events if e.start + e.length <= end]
            assert max(question.evidence) < end
            right = question.options[question.answer]
            assert right in {e.color for e in shown} | {e.shape for e in shown}
            letters.add(question.answer)
        ends = [e.start + e.length for e in scene.events]
        assert all(end < e.start for end, e in zip(ends, scene.events[1:], strict=False))
    assert letters == {0, 1, 2, 3}
    small = FilmQaTask(slots=FRAMES, moments=2, cache=str(folder))
    sample = small.samples("test", 1, 0)[0]
    right, half = sample.answer, "\n".join([sample.moments[0].answer, "nothing"])
    assert small.score(sample, Answer(right)).value == 1.0
    assert small.score(sample, Answer(half)).value == 0.5
    assert small.score(sample, Answer("")).value == 0.0
    assert small.fingerprint() != task.fingerprint()


def test_a_given_length_is_that_of_every_video_and_of_other_questions(folder: Path) -> None:
    task = VideoQaTask(cache=str(folder), slots=64)
    samples = task.samples("test", 7, 0)
    usual = VideoQaTask(cache=str(folder)).samples("test", 7, 0)
    assert {s.metadata["slots"] for s in samples} == {64}
    assert not {s.id for s in samples} & {s.id for s in usual}
    assert task.fingerprint() != VideoQaTask().fingerprint()
    assert samples[0].video is not None
    assert sample_frames(samples[0].video, 64).total == 128
    assert max(slot for s in samples for slot in s.metadata["evidence"]) >= SLOTS
    for wrong in (15, 257):
        with pytest.raises(UsageError, match="wrong length of videos"):
            VideoQaTask(slots=wrong)


def test_lines_about_one_video_are_one_film_in_the_order_of_time(
    adapter: FilmAdapter, film: Sample, tmp_path: Path
) -> None:
    assert film.video is not None
    shutil.copy(film.video, tmp_path / "a.mp4")
    line = {"video": "a.mp4", "options": ["red", "blue"], "answer": "B", "question": "What color?"}
    lines = [line | {"seconds": 3.0}, line | {"video": "gone.mp4", "seconds": 1}]
    lines.append(line | {"seconds": 1, "answer": "A", "family": "early"})
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in lines), encoding="utf-8")
    task = FilmQaTask(source=str(tmp_path))
    whole, gone = task.samples("test", None, 0)
    assert [moment.seconds for moment in whole.moments] == [1.0, 3.0]
    assert whole.answer == "red\nblue"
    assert "gone.mp4" in task.notices([whole, gone])[0]
    inputs = adapter.prepare(whole)
    assert inputs.details["frames_before_questions"] == [4, 12]
    scored = task.score(whole, adapter.answer(inputs, None))
    assert [one["family"] for one in scored.details["moments"]] == ["early", "video"]
    assert len(task.samples("test", 1, 0)) == 1
    for wrong in ({"seconds": 0}, {"seconds": "soon"}, {}):
        file.write_text(json.dumps(line | wrong), encoding="utf-8")
        with pytest.raises(UsageError, match=r"line 1: (wrong|no) seconds"):
            task.samples("test", None, 0)


def test_what_cannot_be_asked_is_refused(adapter: FilmAdapter, film: Sample) -> None:
    inputs = adapter.prepare(film)
    recency = create("recency", budget=0.4)
    with (
        attach(adapter.backbone, recency, interval=4, protocol="prune_after_prefill") as memory,
        pytest.raises(UsageError, match="no prompt to prune after"),
    ):
        adapter.answer(inputs, memory)
    one, two = film.moments
    with pytest.raises(UsageError, match="no questions in the order of time"):
        adapter.prepare(replace(film, moments=(two, one)))
    with pytest.raises(UsageError, match="no questions in the order of time"):
        adapter.prepare(replace(film, moments=()))
    with pytest.raises(UsageError, match="two options or more"):
        adapter.prepare(replace(film, moments=(replace(one, options=()), two)))
    with pytest.raises(RunError, match="before the first frame"):
        adapter.prepare(replace(film, moments=(replace(one, seconds=0.0), two)))
    for slots, moments in ((20, 4), (64, 0), (200, 6)):
        with pytest.raises(UsageError, match="wrong length of films"):
            FilmQaTask(slots=slots, moments=moments)


def test_a_model_that_closes_a_clip_cannot_read_a_film(film: Sample, tmp_path: Path) -> None:
    video_checkpoints.save_checkpoint(tmp_path, "llava_onevision")
    closing = FilmAdapter(model=str(tmp_path), frames=FRAMES, dtype="float32", device="cpu")
    closing.load()
    with pytest.raises(UsageError, match="cannot read a film that goes on"):
        closing.prepare(film)
