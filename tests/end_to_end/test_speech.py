"""Spoken questions from the command line: asked, scored, recorded second by second, and drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.tasks.speech_qa import speaking


@pytest.mark.slow  # where the machine is busy
@pytest.mark.skipif(bool(speaking.missing_program()), reason="needs espeak-ng")
def test_spoken_questions_run_and_are_reported_second_by_second(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    words = [
        "transfer",
        "experiment=speech",
        "cells=[speech]",
        "cells.speech.task.families=null",
        "cells.speech.adapter.encode_once=false",
        f"cells.speech.adapter.model={tiny / 'speech'}",
        "cells.speech.adapter.dtype=float32",
        "cells.speech.adapter.long_sounds=windows",
        'policies=[full, {name: recency, budget: "fraction:0.25"}]',
        "limit=5",
        f"folder={run}",
    ]
    assert main(words) == 0
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert [record["error"] for record in records] == [""] * 10
    assert {record["family"] for record in records} == {
        "word",
        "order",
        "needle",
        "absent",
        "twice",
    }
    for record in records:
        (seconds,) = record["details"]["sound_seconds"]
        kept = record["kept_by_index"]["sound"]
        assert len(kept) in (int(seconds), int(seconds) + 1)
        assert record["details"]["sound_tokens"][0] == pytest.approx(25 * seconds, abs=14)
        if record["policy"] == "full":
            assert set(kept) == {1.0}
        else:
            assert kept[0] < kept[-1]
    page = (run / "report.html").read_text(encoding="utf-8")
    drawn = [json.loads(data) for data in re.findall(
        r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]  # fmt: skip
    views = [view for views in drawn for view in views if isinstance(views, list)]
    assert {view["form"] for view in views if "form" in view} == {"sound"}
    assert "Each square is one second of the sound" in page
