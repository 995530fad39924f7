"""Speech and pictures under every policy: tables of kept records, blank media, kinds of token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from synthetic_records import make_record

from namm_mm.records import Inputs, Record, Sample, TokenType
from namm_mm.results.slim import read_slim, write_slim
from namm_mm.sound import read_sound
from research.benchmarks import results_media
from research.benchmarks.blank_media import blank
from research.benchmarks.forgotten_speech import TEXT, kinds_of

SAMPLES = 12


def record(policy: str, number: int, value: float, family: str = "word") -> Record:
    budget = {"full": "full", "namm": "pool_bytes:0.4"}.get(policy, "bytes:0.4")
    return make_record(
        experiment="speech", policy=policy, budget=budget, sample=f"{family}-{number}",
        family=family, value=value, metric="accuracy",
    )  # fmt: skip


@pytest.fixture
def records() -> list[Record]:
    """The full cache is right everywhere, the NAMM too, recency nowhere."""
    right = {"full": 1.0, "namm": 1.0, "probed(namm)": 1.0, "recency": 0.0}
    return [
        record(policy, number, value)
        for policy, value in right.items()
        for number in range(SAMPLES)
    ]


def test_the_table_has_every_policy_at_its_budget(records: list[Record]) -> None:
    needle = record("full", 0, 0.0, "needle")
    found = results_media.scores([*records, needle], ("word",))
    page = results_media.table(found)
    assert "| policy | 40% of the bytes |" in page
    assert f"| full cache, {SAMPLES} samples | 1.00 [0.76, 1.00] |" in page
    assert "| `recency` | 0.00 [0.00, 0.24] |" in page


def test_differences_are_paired_and_bold_where_they_hold(records: list[Record]) -> None:
    page = results_media.differences({"speech": records}, 0.4)
    rows = {line.split(" | ")[0]: line for line in page.splitlines()}
    assert "**+1.00" in rows["| `namm` - `recency`"]
    assert "+0.00" in rows["| `probed(namm)` - full cache"]
    assert rows["| `probed(namm)` - `keydiff`"].split(" | ")[1].strip(" |") == "-"
    assert "pictures" not in page  # no records of them


def test_a_failed_sample_has_no_score(records: list[Record]) -> None:
    broken = make_record(experiment="speech", sample="word-99", family="word", error="broken")
    found = results_media.scores([*records, broken])
    assert all(len(own) == SAMPLES for own in found.values())


def test_a_page_is_filled_from_kept_records(records: list[Record], tmp_path: Path) -> None:
    file = tmp_path / "speech_transfer.jsonl.gz"
    write_slim(file, records)
    page = "before\n\n<!-- scores: speech word -->\n\n| old |\n| --- |\n| 1 |\n\nafter\n"
    made = results_media.filled(page, {"speech": read_slim(file)})
    assert made.startswith("before\n\n<!-- scores: speech word -->\n\n| policy |")
    assert made.endswith("|\n\nafter\n")
    assert "old" not in made
    assert results_media.filled(made, {"speech": records}) == made


def test_families_stand_beside_their_blank_media(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_media, "KEPT", tmp_path)
    score = {"mean": 0.25, "low": 0.1, "high": 0.5, "n": 20}
    facts = {"accuracy": {"word": score, "all": score}}
    (tmp_path / "blank_speech.json").write_text(json.dumps(facts))
    page = results_media.beside_blank(records, "speech")
    assert "| family | n | full cache | blank, 20 samples |" in page
    assert f"| `word` | {SAMPLES} | 1.00 [0.76, 1.00] | 0.25 [0.10, 0.50] |" in page


def test_blank_files_are_of_the_same_size_and_length(tmp_path: Path) -> None:
    picture, sound = tmp_path / "a.png", tmp_path / "a.wav"
    Image.new("RGB", (40, 30), "red").save(picture)
    soundfile.write(sound, np.sin(np.arange(8000) / 9), 16_000)
    sample = Sample("s", "f", question="What?", images=(picture,), sounds=(sound,))
    folder = tmp_path / "blank"
    folder.mkdir()
    found = blank(sample, folder)
    with Image.open(found.images[0]) as grey:
        assert grey.size == (40, 30)
        assert grey.getextrema() == ((128, 128),) * 3
    silent = read_sound(found.sounds[0])
    assert len(silent.samples) == 8000
    assert np.abs(silent.samples).max() == 0.0


def test_tokens_are_named_by_what_is_said_at_their_time() -> None:
    said: list[dict[str, Any]] = [
        {"text": "river", "start": 0.2, "end": 0.6},
        {"text": "stone", "start": 1.8, "end": 2.2},
        {"text": "river", "start": 2.4, "end": 2.8},
        {"text": "it was a long day", "start": 3.0, "end": 3.4},
        {"text": "the password is stone", "start": 3.6, "end": 4.0},
    ]
    sample = Sample("s", "twice", question="Which?", metadata={"said": said})
    types = [TokenType("text"), *(TokenType("sound", 0),) * 21, TokenType("text")]
    kinds = kinds_of(Inputs({}, tuple(types), sample, {}), 0.2)
    assert kinds == [
        TEXT, "pause", "word", "word", *["long pause"] * 6, "word", "word", "pause", "again",
        "again", "pause", "phrase", "phrase", "pause", "password", "password",
        "silence at the end", TEXT,
    ]  # fmt: skip
