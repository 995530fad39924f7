"""A run in parts: the parts make the whole, and a stopped part goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from namm_mm.cli import main
from namm_mm.errors import UsageError
from namm_mm.experiment import run
from namm_mm.experiment.merging import merge
from namm_mm.experiment.reading import from_mapping
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.records import Record
from namm_mm.runs import read_records, read_state
from namm_mm.runs.keys import key_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def settings(**more: Any) -> ExperimentSettings:
    cells: dict[str, Any] = {
        "text": {
            "adapter": {"name": "text", "model": "text", "dtype": "float32", "device": "cpu"},
            "task": {"name": "long_text", "words": 100, "families": ["passkey"]},
            "interval": 16,
        },
        "control": {
            "adapter": {"name": "decision_transformer", "model": "control", "device": "cpu"},
            "task": {"name": "offline_rl", "max_steps": 8},
            "interval": 16,
        },
    }
    return from_mapping(
        {
            "name": "parts",
            "wandb": "disabled",
            "limit": 3,
            "checkpoint": "namm.safetensors",
            "policies": ["namm", "recency"],
            "budgets": ["match:namm"],
            "cells": cells,
            **more,
        }
    )


def values(records: Any) -> dict[Any, Any]:
    return {
        key_of(record): (record.value, record.memory.kept_by_layer if record.memory else None)
        for record in records
    }


def test_the_parts_of_a_run_make_the_whole(tmp_path: Path) -> None:
    whole = run(settings(), folder=tmp_path / "whole")
    folders = [tmp_path / "one", tmp_path / "two"]
    parts = [
        run(settings(shard=f"{index}/2"), folder=folder)
        for index, folder in enumerate(folders, start=1)
    ]
    assert [len(part.records) for part in parts] == [8, 4]
    joined = merge(folders, tmp_path / "joined")
    expected, found = values(whole.records), values(joined)
    assert set(found) == set(expected)
    for key, (value, kept) in found.items():  # a smaller batch rounds differently
        assert (pytest.approx(value, abs=1e-4), kept) == expected[key]
    assert all(record.provenance == joined[0].provenance for record in joined)
    state = read_state(tmp_path / "joined")
    assert state.status == "ok"
    assert state.provenance["config_hash"] == settings().config_hash
    assert "shard" not in state.config


def test_a_stopped_part_goes_on_and_makes_no_record_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from namm_mm.tasks.long_text import LongTextTask
    from namm_mm.tasks.offline_rl import OfflineRlTask

    scored, played = LongTextTask.score, OfflineRlTask.play
    stop: dict[str, int] = {"score": 4, "play": 2}

    def interrupted(name: str, inner: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            stop[name] -= 1
            if stop[name] == 0:
                raise KeyboardInterrupt
            return inner(*arguments, **options)

        return call

    whole = run(settings(), folder=tmp_path / "whole")
    monkeypatch.setattr(LongTextTask, "score", interrupted("score", scored))
    monkeypatch.setattr(OfflineRlTask, "play", interrupted("play", played))
    folder = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):  # in the second sample's second policy
        run(settings(), folder=folder)
    assert len(read_records(folder)[0]) == 3
    with pytest.raises(KeyboardInterrupt):  # before the second policy plays
        run(settings(), folder=folder)
    assert len(read_records(folder)[0]) == 6 + 3
    asked = stop["score"]
    outcome = run(settings(), folder=folder)
    assert stop["score"] == asked, "a finished cell was asked again"
    found: list[Record] = read_records(folder)[0]
    assert len(found) == len(outcome.records) == len(whole.records)
    assert values(found) == values(whole.records)
    assert read_state(folder).status == "ok"


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    only = {"cells": {"text": settings().as_mapping()["cells"]["text"]}}
    one, two = tmp_path / "one", tmp_path / "two"
    run(settings(**only, shard="1/2"), folder=one)
    with pytest.raises(UsageError, match=r"do not make a whole run.*1/2, 2/2"):
        merge([one], tmp_path / "joined")
    with pytest.raises(UsageError, match="another part of the samples"):
        run(settings(**only, shard="2/2"), folder=one)
    with pytest.raises(UsageError, match=r"seeds: \[5\] -> \[0\]"):
        run(settings(**only, shard="1/2", seeds=[5]), folder=one)
    run(settings(**only, shard="2/2", seeds=[5]), folder=two)
    with pytest.raises(UsageError, match=r"different settings.*seeds: \[0\] -> \[5\]"):
        merge([one, two], tmp_path / "joined")
    with pytest.raises(UsageError, match="shard: got '3/2'"):
        settings(shard="3/2")
    assert not (tmp_path / "joined").exists()


def test_shards_run_and_are_joined_at_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["adapter.model=text", "adapter.dtype=float32", "policy=l2", "budget=tokens:32"]
    task = ["task.words=100", "limit=2", "interval=16", "wandb=disabled"]
    words = ["evaluate", *model, *task]
    for index in (1, 2):
        assert main([*words, f"output={tmp_path}", f"shard={index}/2"]) == 0
    folders = [str(tmp_path / "evaluate" / f"shard-{index}-of-2") for index in (1, 2)]
    assert main([*words, f"output={tmp_path}", "shard=2/2"]) == 0  # nothing is left to do
    assert main(["report", *folders, "--merge", str(tmp_path / "whole")]) == 0
    assert len(read_records(tmp_path / "whole")[0]) == 2
    assert "long_text with text" in capsys.readouterr().out
