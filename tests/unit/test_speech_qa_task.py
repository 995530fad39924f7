"""Questions about spoken talks and about a user's own sounds: known answers, splits apart."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import speech_checkpoints

from namm_mm.errors import RunError, UsageError
from namm_mm.records import Answer, Sample
from namm_mm.sound import read_sound, write_wav
from namm_mm.tasks.speech_qa import SpeechQaTask, speaking
from namm_mm.tasks.speech_qa.generated import drawn
from namm_mm.tasks.speech_qa.questions import FAMILIES
from namm_mm.tasks.speech_qa.talks import VOICES
from namm_mm.tasks.speech_qa.words import KNOWN, WORDS, words_of

SPLITS = ("train", "validation", "test")
speaks = pytest.mark.skipif(bool(speaking.missing_program()), reason="needs espeak-ng")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spoken")


def texts(sample: Sample) -> list[str]:
    return [one["text"] for one in sample.metadata["said"]]


@speaks
def test_the_same_arguments_give_the_same_samples_and_sounds(cache: Path, tmp_path: Path) -> None:
    first = SpeechQaTask(cache=str(cache)).samples("test", 5, 0)
    again = SpeechQaTask(cache=str(tmp_path)).samples("test", 5, 0)
    assert [s.family for s in first] == list(FAMILIES)
    for one, other in zip(first, again, strict=True):
        assert (one.question, one.options, one.metadata) == (
            other.question,
            other.options,
            other.metadata,
        )
        assert one.files[0].read_bytes() == other.files[0].read_bytes()
    assert SpeechQaTask().fingerprint() == SpeechQaTask().fingerprint()
    assert SpeechQaTask().fingerprint() != SpeechQaTask(words="known").fingerprint()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_is_right_because_of_what_was_said(family: str) -> None:
    for number in range(40):
        made, _ = drawn(family, "train", "apart", 0, number)
        said = [text.split()[-1] for text in made.texts]
        offered = {made.answer, *made.wrong}
        assert len(offered) == 4
        if family == "absent":
            assert made.answer not in said
            assert set(made.wrong) <= set(said)
        elif family == "order":
            places = {"first": 0, "second": 1, "third": 2, "fourth": 3}
            assert said[places[made.question.rstrip("?").split()[-1]]] == made.answer
            assert offered == set(said)
        elif family == "twice":
            assert Counter(said)[made.answer] == 2
            assert all(Counter(said)[word] == 1 for word in made.wrong)
            assert made.evidence[1] - made.evidence[0] >= 2
        else:
            assert said[made.evidence[0]] == made.answer
            assert not set(made.wrong) & set(said)


def test_words_voices_and_seeds_are_apart() -> None:
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not set(words_of(one, "apart")) & set(words_of(other, "apart"))
        assert not set(VOICES[one]) & set(VOICES[other])
        assert drawn("word", one, "known", 0, 0) != drawn("word", other, "known", 0, 0)
    assert sum(len(words_of(split, "apart")) for split in SPLITS) == len(WORDS) == len(set(WORDS))
    assert min(len(words_of(split, "apart")) for split in SPLITS) >= 40
    assert words_of("test", "known") == KNOWN


@speaks
def test_a_talk_says_its_words_where_it_says_so(cache: Path) -> None:
    sample = SpeechQaTask(cache=str(cache), families=["order"]).samples("test", 3, 1)[0]
    sound = read_sound(sample.files[0])
    assert sound.seconds == pytest.approx(sample.metadata["seconds"], abs=1e-3)
    loud = []
    silent = np.ones(len(sound.samples), dtype=bool)
    for one in sample.metadata["said"]:
        begin, end = (round(one[key] * 16_000) for key in ("start", "end"))
        loud.append(float(np.sqrt(np.mean(sound.samples[begin:end] ** 2))))
        silent[begin:end] = False
    assert min(loud) == pytest.approx(0.08, abs=0.02)
    assert float(np.sqrt(np.mean(sound.samples[silent] ** 2))) < 0.02


@speaks
def test_a_needle_is_in_a_long_talk(cache: Path) -> None:
    sample = SpeechQaTask(cache=str(cache), families="needle").samples("train", 1, 0)[0]
    assert 15 < sample.metadata["seconds"] < 30
    assert texts(sample)[sample.metadata["evidence"][0]] == f"the password is {sample.answer}"


@speaks
def test_right_places_are_balanced(cache: Path) -> None:
    samples = SpeechQaTask(cache=str(cache), families=["word"]).samples("validation", 8, 0)
    assert Counter(s.metadata["letter"] for s in samples) == dict.fromkeys("ABCD", 2)
    for sample in samples:
        assert sample.options["ABCD".index(sample.metadata["letter"])] == sample.answer


def test_a_missing_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    speaking.say.cache_clear()
    speaking.version.cache_clear()
    (said,) = SpeechQaTask().missing(())
    assert "apt-get install espeak-ng" in said
    with pytest.raises(RunError, match="apt-get install espeak-ng"):
        SpeechQaTask().samples("test", 1, 0)


@speaks
def test_a_voice_that_is_not_known_is_told() -> None:
    with pytest.raises(RunError, match="said nothing"):
        speaking.say("river", speaking.Voice("xx-none"))


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'needle'"):
        SpeechQaTask(families="neddle")
    with pytest.raises(UsageError, match="Did you mean 'known'"):
        SpeechQaTask(words="knwon")


# -- a folder of one's own --------------------------------------------------------------------

LINE = {"sound": "0.wav", "question": "Who?", "options": ["Ada", "Bob"], "answer": "B"}


def folder(path: Path, *lines: object) -> Path:
    """A folder with two sounds and these questions."""
    speech_checkpoints.samples(path)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (path / "questions.jsonl").write_text(text)
    return path


def test_a_folder_asks_about_one_sound_or_several(tmp_path: Path) -> None:
    two = {"sound": ["0.wav", "1.wav"], "question": "Same?", "answer": "yes", "id": "two"}
    task = SpeechQaTask(source=str(folder(tmp_path, LINE, two)))
    first, second = task.samples("test", None, 0)
    assert first.sounds == (tmp_path / "0.wav",)
    assert first.answer == "Bob"
    assert second.sounds == (tmp_path / "0.wav", tmp_path / "1.wav")
    assert (first.family, second.id) == ("sound", "two")
    assert task.score(first, Answer("Bob", option=1)).value == 1.0
    assert task.score(second, Answer(" Yes. ")).value == 1.0
    assert task.missing((first, second)) == []
    assert task.notices((first, second)) == []
    before = task.fingerprint()
    write_wav(tmp_path / "1.wav", np.zeros(100), 16_000)
    assert task.fingerprint() != before


def test_missing_sounds_are_named_before_a_run(tmp_path: Path) -> None:
    gone = LINE | {"sound": ["0.wav", "gone.wav"], "id": "gone"}
    task = SpeechQaTask(source=str(folder(tmp_path, LINE, gone)))
    samples = task.samples("test", None, 0)
    (said,) = task.notices(samples)
    assert "1 of 2 questions have no sound: got 'gone.wav (gone)'" in said
    (said,) = task.missing(samples[1:])
    assert "gone.wav" in said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 1: not valid JSON"),
        (LINE | {"video": "x.mp4"}, "unknown field: got 'video'.*sound"),
        ({"question": "Who?", "answer": "x"}, "no sound.*field 'sound'"),
        (LINE | {"sound": []}, "wrong sound.*a file, or a list of files"),
        (LINE | {"sound": ["0.wav", 3]}, "wrong sound"),
        (LINE | {"answer": "C"}, "wrong answer"),
    ],
)
def test_wrong_lines_are_refused_by_number(tmp_path: Path, line: object, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        SpeechQaTask(source=str(folder(tmp_path, line))).samples("test", None, 0)


def test_a_folder_without_questions_shows_a_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'"sound": "talk.wav"'):
        SpeechQaTask(source=str(tmp_path))
