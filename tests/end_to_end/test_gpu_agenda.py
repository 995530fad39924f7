"""The agenda for a GPU runs on a CPU with tiny sizes, and goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = ["wheels", "device", "llama", "llava"] + ["kernels"] * (find_spec("triton") is not None)


@pytest.mark.slow
def test_the_agenda_gives_rows_and_a_table(tmp_path: Path) -> None:
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable, "TINY": "1"}
    command = ["bash", "research/benchmarks/gpu_agenda.sh", *STEPS]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = "".join(file.read_text() for file in tmp_path.glob("*.txt"))
    assert done.returncode == 0, done.stdout + said
    rows = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 7
    assert all(row["prefill"] > 0 and row["token"] > 0 and not row["error"] for row in rows)
    assert all(row["prefill_roofline"] > 0 and row["token_roofline"] > 0 for row in rows)
    assert {row["vision"] > 0 for row in rows if row["model"] == "llava"} == {True}
    by = {(row["model"], row["batch"], row["cache"]): row["held"] for row in rows}
    assert by["llama", 1, "h2o"] < by["llama", 1, "transformers"]
    assert len((tmp_path / "speed.md").read_text().splitlines()) == 2 + len(rows)
    assert "torch==" in (tmp_path / "wheels.txt").read_text()
    before = (tmp_path / "speed.jsonl").read_text()
    again = [*command[:2], "llama"]
    subprocess.run(again, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert (tmp_path / "speed.jsonl").read_text() == before
