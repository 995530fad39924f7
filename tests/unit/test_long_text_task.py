"""The long-text task: splits of real text that never overlap, answers that only the past holds."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from namm_mm.errors import UsageError
from namm_mm.records import Answer, Sample
from namm_mm.tasks import TASKS
from namm_mm.tasks.long_text import LongTextTask, sources
from namm_mm.tasks.long_text.task import NAMES
from namm_mm.tasks.video_qa import VideoQaTask
from namm_mm.testing import check_task

pytestmark = pytest.mark.numeric

EVERY = LongTextTask(families=NAMES, words=300)


def test_it_keeps_the_promises_of_a_task() -> None:
    assert TASKS.get("long_text") is LongTextTask
    check_task(EVERY, limit=2 * len(NAMES))


def test_families_come_in_turn_and_a_limit_gives_a_prefix() -> None:
    samples = EVERY.samples("test", 4 * len(NAMES), seed=3)
    assert Counter(sample.family for sample in samples) == dict.fromkeys(NAMES, 4)
    assert list(EVERY.samples("test", 7, seed=3)) == list(samples[:7])
    assert EVERY.samples("test", 7, seed=4)[0].context != samples[0].context
    whole = LongTextTask(families=("passkey",), words=100, samples_per_family=3)
    assert len(whole.samples("train", None, 0)) == len(whole.samples("train", 50, 0)) == 3


@pytest.mark.parametrize("read", [sources.prose, sources.code])
def test_no_paragraph_is_in_two_splits(read: Any) -> None:
    long = {
        split: {p for d in read(split) for p in d.paragraphs if len(p) >= 60}
        for split in sources.SPLITS
    }
    for one, other in combinations(sources.SPLITS, 2):
        assert not long[one] & long[other]
    size = {split: sum(map(len, texts)) for split, texts in long.items()}
    assert all(characters > 200_000 for characters in size.values())
    assert size["train"] > size["test"]


def test_prose_and_code_of_one_file_are_in_one_split() -> None:
    """Otherwise docstrings seen in training would come back in the code asked about in testing."""
    files = {d.name: split for split in sources.SPLITS for d in sources.code(split)}
    for split in sources.SPLITS:
        for document in sources.prose(split):
            assert files.get(document.name, split) == split


@pytest.mark.parametrize("family", NAMES)
def test_the_answer_was_said_and_the_newest_quarter_does_not_hold_it(family: str) -> None:
    task = LongTextTask(families=(family,), words=400)
    for sample in task.samples("train", 25, seed=0):
        said = rf"(?<!\w){re.escape(sample.answer)}(?!\w)"
        newest = sample.context[-len(sample.context) // 4 :]
        assert re.search(said, sample.context), sample.id
        assert not re.search(said, newest), sample.id
        assert sample.answer not in sample.question
        assert 0.6 * 2400 < len(sample.context) < 1.5 * 2400
        if sample.options:
            assert sample.answer in sample.options
            assert len(set(sample.options)) == len(sample.options) >= 4


def test_a_hint_names_the_key_before_the_list() -> None:
    hinted, plain = (
        LongTextTask(families=(name,)).samples("test", 1, 0)[0]
        for name in ("key_value_hint", "key_value")
    )
    key = hinted.question.strip(": \n")
    assert key in hinted.context.splitlines()[0]
    assert f"\n{key}: {hinted.answer}\n" in hinted.context
    key = plain.question.strip(": \n")
    assert f"\n{key}: {plain.answer}\n" in plain.context


@pytest.mark.parametrize(
    ("text", "value"),
    [("12345", 1.0), (" 12345. The grass", 1.0), ("123456", 0.0), ("1234", 0.0), ("no 12345", 0.0)],
)
def test_a_generated_answer_must_begin_with_the_right_one(text: str, value: float) -> None:
    sample = Sample("a", "passkey", question="The pass key is ", answer="12345")
    score = EVERY.score(sample, Answer(text))
    assert (score.value, score.metric, dict(score.details)) == (value, "exact_match", {})
    assert EVERY.score(sample, Answer(text, log_probabilities=(-2.5,))).details == {
        "log_probability": -2.5
    }


def test_a_choice_is_judged_by_its_option() -> None:
    sample = Sample("a", "passage", options=("Ann", "Bob"), answer="Bob")
    right = EVERY.score(sample, Answer("Bob", 1, (-3.0, -1.0)))
    wrong = EVERY.score(sample, Answer("Ann", 0, (-1.0, -3.0)))
    assert (right.value, wrong.value, right.metric) == (1.0, 0.0, "accuracy")
    assert (right.details, wrong.details) == ({"log_probability": -1.0}, {"log_probability": -3.0})


def test_the_fingerprint_follows_text_and_options(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path, name)
    task = LongTextTask(families=("cloze",), source=str(tmp_path), words=100)
    mark = task.fingerprint()
    assert LongTextTask(families=("cloze",), source=str(tmp_path), words=101).fingerprint() != mark
    assert LongTextTask(families=("cloze",), words=100).fingerprint() != mark


def write(folder: Path, name: str) -> None:
    """Write a file of 40 paragraphs of running text, its own words in each."""
    words = "the river carried its boats past old towns while merchants counted their coins"
    own = " ".join(f"{name}{letter * 6}" for letter in "pqrstuvw")
    text = "\n\n".join(f"Then {words} and number {own} {'x' * i} sailed on." for i in range(1, 41))
    (folder / f"{name}.txt").write_text(text)


def test_a_folder_of_texts_replaces_the_prose(tmp_path: Path) -> None:
    for name in ("north", "south", "west"):
        write(tmp_path, name)
    task = LongTextTask(families=("passkey",), source=str(tmp_path), words=120)
    used = {}
    for split in sources.SPLITS:
        text = task.samples(split, 1, 0)[0].context
        used[split] = [name for name in ("north", "south", "west") if f"{name}pppppp" in text]
    assert sorted(name for names in used.values() for name in names) == ["north", "south", "west"]


def test_an_empty_folder_is_a_usage_error(tmp_path: Path) -> None:
    task = LongTextTask(families=("passkey",), source=str(tmp_path))
    with pytest.raises(UsageError, match=r"too little text.*three or more.*Add \.txt files"):
        task.samples("test", 1, 0)
    with pytest.raises(UsageError, match="no such text source"):
        LongTextTask(source=str(tmp_path / "absent"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 50)
    sources._folder.cache_clear()
    with pytest.raises(UsageError, match=r"unreadable text.*latin\.txt.*UTF-8"):
        task.samples("test", 1, 0)


@pytest.mark.parametrize("family", ["key_value", "passage", "cloze"])
def test_too_small_a_text_is_said_instead_of_searched_for_ever(tmp_path: Path, family: str) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"of {name} " * 10)
    task = LongTextTask(families=(family,), source=str(tmp_path), words=200)
    with pytest.raises(UsageError, match="too small for this family"):
        task.samples("test", 1, 0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"families": ["pass_key"]}, "Did you mean 'passkey'"),
        ({"families": []}, "one or more"),
        ({"words": 50}, "100 or more"),
        ({"depth": [0.5, 0.2]}, "low < high"),
        ({"depth": [0.1, 0.95]}, r"<= 0\.7"),
        ({"samples_per_family": 0}, ">= 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        LongTextTask(**options)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'validation'"):
        EVERY.samples("valid", 1, 0)


def test_a_family_may_be_named_without_a_list() -> None:
    """As in `task.families=passkey` on a command line."""
    assert LongTextTask(families="passkey").families == ("passkey",)
    assert VideoQaTask(families="order").families == ("order",)
