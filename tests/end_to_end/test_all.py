"""`experiment=all`: one NAMM on text, video, control, pictures and speech, planned and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.models import composed, fetched
from namm_mm.tasks.speech_qa import speaking
from namm_mm.tasks.video_qa import footage

FOREIGN = ("qwen2.5-coder-0.5b-instruct", "gemma-3-270m", "whisper-tiny-en")
CELLS = ("text", "qwen", "gemma", "video", "image", "speech", "control")


def test_all_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    main(["transfer", "experiment=all", "--plan"])
    page = capsys.readouterr().out
    for cell in CELLS:
        assert f"\n{cell}: " in page
    assert "300 tokens: a long prompt of the task" in page  # ten seconds of speech
    for name in FOREIGN:
        if fetched.cached(fetched.MODELS[name]) is None:
            assert f"namm-mm models get {name}" in page


@pytest.mark.slow
@pytest.mark.skipif(bool(speaking.missing_program()), reason="needs espeak-ng")
@pytest.mark.skipif(bool(composed.missing()), reason=f"needs `{composed.missing()}`")
@pytest.mark.skipif(not footage.available(), reason=f"needs `{footage.INSTALL}`")
def test_all_runs_with_one_sample_of_each(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    models = {
        "text": "text", "qwen": "text", "gemma": "text", "video": "video", "image": "video",
        "speech": "speech",
    }  # fmt: skip
    words = ["transfer", "experiment=all", "limit=1", f"folder={run}"]
    words += [f"cells.{cell}.adapter.model={tiny / name}" for cell, name in models.items()]
    words += [f"cells.{cell}.interval=16" for cell in ("image", "speech")]
    words += ["cells.speech.adapter.long_sounds=windows"]  # the tiny model hears two seconds
    assert main(words) == 0
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    assert [record["error"] for record in records] == [""] * len(records)
    assert len(records) == 6 * 8 + 6
    tasks = {record["task"] for record in records}
    assert tasks == {"long_text", "video_qa", "image_qa", "speech_qa", "offline_rl"}
