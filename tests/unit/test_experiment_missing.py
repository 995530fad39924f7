"""What is not on this machine is told before any model of a run is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.models.missing import missing


def model_folder(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", *files):
        (folder / name).write_text("{}")
    return folder


def test_a_folder_of_a_model_lacks_weights_or_a_tokenizer(tmp_path: Path) -> None:
    whole = model_folder(tmp_path / "whole", "model.safetensors", "tokenizer.json")
    assert not list(missing(str(whole), tokenizer=True))
    bare = model_folder(tmp_path / "bare")
    weights, tokenizer = missing(str(bare), tokenizer=True)
    assert "the model has no weights" in weights
    assert "the model has no tokenizer" in tokenizer
    assert len(list(missing(str(bare), tokenizer=False))) == 1


def test_a_shard_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    names = [f"model-{number}-of-2.safetensors" for number in (1, 2)]
    folder = model_folder(tmp_path / "shards", names[0])
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    (said,) = missing(str(folder), tokenizer=False)
    assert said.startswith(f"1 files of weights are missing in {folder}: got '{names[1]}'")
    index.write_text("[]")
    assert "cannot be read" in next(iter(missing(str(folder), tokenizer=False)))


def test_models_of_ours_lack_nothing_and_others_are_told_with_their_command() -> None:
    assert not list(missing("pocket_video", tokenizer=True))
    (said,) = missing("HuggingFaceTB/none", tokenizer=True)
    assert "hf download HuggingFaceTB/none" in said


def test_a_run_ends_before_a_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        {"video": "gone.mp4", "question": "What?", "options": ["a", "b"], "answer": "A"},
        {"video": "gone.mp4", "question": "Why?", "options": ["a", "b"], "answer": "B"},
    ]
    Path("questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    model_folder(Path("model"), "model.safetensors")
    video = ["adapter=llava_video", "task=video_folder", "task.source=."]
    text = ["adapter=text", "adapter.model=model"]
    for words, said in (
        (video, "cells.video_qa.task: 2 of 2 questions have no video: got 'gone.mp4 (line-1)"),
        (text, "cells.long_text.adapter.model: the model has no tokenizer"),
    ):
        assert main(["evaluate", *words, "policy=full", "wandb=disabled"]) == 1
        told = capsys.readouterr().err
        assert said in told
        assert "loading" not in told
    Path("questions.jsonl").write_text('{"video": "a.mp4"')
    assert main(["evaluate", *video, "policy=full", "wandb=disabled"]) == 2
    told = capsys.readouterr().err
    assert "questions.jsonl, line 1: not valid JSON" in told
    assert "loading" not in told
