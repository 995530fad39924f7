"""The experiments on published video models are whole, and one runs on tiny stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import benchmark_folders
import pytest
import video_checkpoints

from namm_mm.cli import main
from namm_mm.commands.compose import compose, groups
from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping

VIDEO = [name for name in groups()["experiment"] if name.startswith(("paper_video", "scale_video"))]


@pytest.mark.parametrize("name", VIDEO)
def test_every_cell_can_be_planned(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", f"experiment={name}", "--plan", "--json", "--gpu=h100"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["fits"]
    for cell in plan["cells"]:
        assert cell["weights"], "the model is in no table"
        assert cell["samples"] in (1337, 2174, 2700)
        assert any(cell["model"] == download["what"] for download in plan["downloads"])


@pytest.mark.slow
def test_a_cell_runs_on_a_tiny_model_and_a_tiny_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    video_checkpoints.save_checkpoint(tmp_path / "model", "llava_next_video")
    benchmark_folders.save_longvideobench(tmp_path / "lvb")
    words = [
        "experiment=paper_video",
        "cells=[longvideobench]",
        "cells.longvideobench.adapter.model=model",
        "cells.longvideobench.adapter.device=cpu",
        "cells.longvideobench.adapter.dtype=float32",
        "cells.longvideobench.adapter.frames=4",
        "cells.longvideobench.adapter.rope=linear:2",
        "cells.longvideobench.interval=16",
        "cells.longvideobench.task.source=lvb",
        "policies=[full,namm]",
        "wandb=disabled",
    ]
    assert main(["transfer", *words]) == 0
    said = capsys.readouterr()
    assert "1 of 3 videos are missing" in said.out + said.err
    (lines,) = (tmp_path / "runs").glob("*/*/records.jsonl")
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(records) == 12
    assert sum(bool(record["error"]) for record in records) == 4
    for record in records:
        assert record["details"]["rope"] == "linear:2", "in every record, failed ones included"
        assert record["details"]["context_length"] == 4096
        if not record["error"]:
            assert record["details"]["frames_seen"] == 4
    table = json.loads((lines.parent / "benchmark.json").read_text())["longvideobench"]
    assert set(table) == {"full", "namm threshold"}
    assert table["full"]["missing"] == ["gone.mp4"]
    assert table["full"]["n"] == 4
    assert table["full"]["unparsed"] == table["full"]["drawn"], "published: drawn at random"
    parts = [tmp_path / "one", tmp_path / "two"]
    for index, part in enumerate(parts, start=1):
        run(from_mapping(compose("transfer", [*words, f"shard={index}/2"])), folder=part)
    assert main(["report", *map(str, parts), "--merge", str(tmp_path / "whole")]) == 0
    assert "longvideobench, full: " in capsys.readouterr().out
    joined = json.loads((tmp_path / "whole" / "benchmark.json").read_text())
    assert joined == {"longvideobench": table}
    pictures = {record["media"]["frames"] for record in records} - {""}
    assert pictures
    assert all((tmp_path / "whole" / picture).is_file() for picture in pictures)
    assert "shard" not in (tmp_path / "whole" / "config.yaml").read_text()
