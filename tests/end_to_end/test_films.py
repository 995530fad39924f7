"""`experiment=films`: long videos and films, planned and run with one sample of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from namm_mm.cli import main


@pytest.mark.slow
def test_films_run_with_one_sample_of_each(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["transfer", "experiment=films", "--plan"])
    page = capsys.readouterr().out
    assert "\nlong: " in page
    assert "\nfilm: " in page
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    words = ["transfer", "experiment=films", "limit=1", f"folder={run}"]
    words += [f"cells.{cell}.adapter.model={tiny / 'video'}" for cell in ("long", "film")]
    assert main(words) == 0
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert [record["error"] for record in records] == [""] * 16
    films = [record for record in records if record["task"] == "film_qa"]
    assert len(films) == 8
    for record in films:
        assert len(record["details"]["moments"]) == 4
        assert record["details"]["frames_before_questions"] == [16, 32, 48, 64]
        assert record["memory"]["updates"] >= (record["policy"] != "full") * 8
