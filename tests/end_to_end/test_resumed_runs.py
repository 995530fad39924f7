"""One run is one run, however often it is stopped: by a signal, by a kill, by a second process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.results.rows import result_rows
from namm_mm.runs import read_records, read_state
from namm_mm.runs.keys import key_of
from namm_mm.runs.lock import owner_of

PROGRAM = "import sys; from namm_mm.cli import main; sys.exit(main(sys.argv[1:]))"
EVALUATE = [
    *("evaluate", "adapter.model=text", "adapter.dtype=float32", "policy=l2", "budget=tokens:32"),
    *("task.words=100", "limit=24", "interval=16"),
]
EVOLVE = ["evolve", "--configs", str(Path(__file__).parent / "configs"), "evolution=tiny"]

pytestmark = pytest.mark.slow  # real processes, which load torch


@pytest.fixture(autouse=True)
def _inside(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


@contextmanager
def at_work(command: list[str], file: Path, least: int) -> Iterator[subprocess.Popen[str]]:
    """A process, from when its `file` has so many lines."""
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command], stderr=subprocess.PIPE, text=True, env=own
    ) as process:
        while process.poll() is None and lines(file) < least:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be disturbed"
        yield process
        process.kill()


def test_a_run_stopped_by_signals_and_resumed_is_one_run(tmp_path: Path) -> None:
    assert main([*EVALUATE, f"folder={tmp_path / 'whole'}", "wandb=disabled"]) == 0
    folder = tmp_path / "run"
    command = [*EVALUATE, f"folder={folder}"]
    with at_work(command, folder / "records.jsonl", 3) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in said
    assert f"To go on: the same command with folder={folder}" in said
    assert "Traceback" not in said
    assert read_state(folder).status == "stopped"
    assert owner_of(folder) is None
    with at_work(command, folder / "records.jsonl", 9) as process:
        process.kill()
    assert main(command) == 0

    records, problems = read_records(folder)
    whole, _ = read_records(tmp_path / "whole")
    assert {key_of(record) for record in records} == {key_of(record) for record in whole}
    assert len(records) == len(whole) == 24
    rows = result_rows(records)  # one for each of the task's two metrics
    assert len({row.method for row in rows}) == 1
    assert sum(row.score.n for row in rows if row.score) == 24
    assert len(problems) <= 1  # the kill may have cut a line off
    assert len({record.provenance.run for record in records}) == 1
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
    watched = {path.name for path in (folder / "history").iterdir()}
    assert watched == {path.name for path in (tmp_path / "whole" / "history").iterdir()}


@pytest.mark.parametrize(
    ("command", "file"), [(EVALUATE, "records.jsonl"), (EVOLVE, "evaluations.jsonl")]
)
def test_a_second_process_is_refused_and_the_first_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], file: str
) -> None:
    folder = tmp_path / "run"
    command = [*command, f"folder={folder}", "wandb=disabled"]
    with at_work(command, folder / file, 2) as process:
        assert main(command) == 2
        assert f"another process is at work in {folder}: process {process.pid} on" in (
            capsys.readouterr().err
        )
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert f"To go on: the same command with folder={folder}" in said
    assert read_state(folder).status == "stopped"
