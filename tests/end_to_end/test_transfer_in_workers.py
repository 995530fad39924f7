"""`transfer execution=ray`: the records of a serial run, whatever happens to the workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from ray_units import why_ray_cannot_start

from namm_mm.cli import main
from namm_mm.commands.compose import compose
from namm_mm.execution import Serial
from namm_mm.experiment import run
from namm_mm.experiment.batches import Batch
from namm_mm.experiment.reading import from_mapping
from namm_mm.records import Record
from namm_mm.runs import read_records
from namm_mm.runs.keys import key_of

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parent / "configs"
WORDS = [
    *("experiment=tiny", "policies=[full,namm,recency]", "wandb=disabled"),
    "cells.control.task.max_steps=20",
]


def play(folder: Path, *words: str) -> None:
    """Run without the report."""
    run(from_mapping(compose("transfer", [*WORDS, *words], CONFIGS)), folder=folder)


@pytest.fixture(scope="module")
def serial(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run in one process."""
    folder = tmp_path_factory.mktemp("serial") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny)
        play(folder)
    return folder


@pytest.fixture(autouse=True)
def _inside(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def told(records: Iterable[Record]) -> dict[Any, Any]:
    """All but times and the process that it was in."""
    apart = ("seconds", "first_token_seconds", "token_seconds", "provenance")
    return {
        key_of(r): {name: value for name, value in vars(r).items() if name not in apart}
        for r in records
    }


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for kind in ("frames", "history")
        for path in (folder / kind).iterdir()
    }


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of slow starts
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'namm-mm[ray]'")
def test_workers_give_the_records_of_a_serial_run_although_one_is_killed(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill_a_worker() -> None:  # the first that has a part
        end = time.monotonic() + 300
        while time.monotonic() < end:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if process.name().startswith("ray::Resident.do"):
                        process.kill()
                        return
            time.sleep(0.05)

    folder = tmp_path / "ray"
    thread = threading.Thread(target=kill_a_worker, daemon=True)
    thread.start()
    words = [*WORDS, f"folder={folder}", "execution=ray", "execution.workers=2"]
    code = main(["transfer", "--configs", str(CONFIGS), *words])
    said = capsys.readouterr()
    if code == 1 and (reason := why_ray_cannot_start(said.err)) is not None:
        pytest.skip(reason)
    assert code == 0
    thread.join(timeout=10)
    assert "lost a worker" in said.err
    expected, found = read_records(serial)[0], read_records(folder)[0]
    assert len(found) == len(expected)
    assert told(found) == told(expected)
    assert files(folder) == files(serial)
    hashes = {record.provenance.config_hash for record in (*found, *expected)}
    assert len(hashes) == 1


def test_a_run_whose_process_was_killed_is_gone_on_with_in_workers(
    serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray itself: the same parts, one after the other in this process."""
    done: list[Batch] = []

    def start(_: Any, factory: Any, results: Any, **__: Any) -> Any:
        work = factory()

        def noted(unit: Batch) -> Any:
            done.append(unit)
            return work(unit)

        return Serial(noted, results)

    monkeypatch.setattr("namm_mm.execution.start", start)
    monkeypatch.setattr("namm_mm.execution.settings.problems", lambda _: ())
    folder = tmp_path / "killed"
    lines = (serial / "records.jsonl").read_text().splitlines(keepends=True)
    control = next(number for number, line in enumerate(lines) if "offline_rl" in line)
    folder.mkdir()
    for name in ("config.yaml", "run.json"):
        (folder / name).write_text((serial / name).read_text())
    half = lines[4][: len(lines[4]) // 2]  # torn, as a kill leaves it
    (folder / "records.jsonl").write_text(
        "".join([*lines[:4], *lines[control : control + 2], half])
    )
    play(folder, "execution=ray")
    assert told(read_records(folder)[0]) == told(read_records(serial)[0])
    assert [(unit.settings.name, len(unit.samples)) for unit in done] == [
        *[("text", 1)],
        *[("video", 1)] * 4,
        ("control", 2),
    ]
    assert [policy.name for policy in done[-1].settings.policies] == ["namm", "recency"]
