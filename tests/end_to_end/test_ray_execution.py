"""Ray gives what serial execution gives, whatever happens to its workers."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from ray_units import MakeSquares, Squares, Task, why_ray_cannot_start

from namm_mm.errors import RunError, UsageError
from namm_mm.execution import Execution, ExecutionSettings, Serial, start
from namm_mm.execution.signals import ENDING, Stopped, stoppable
from namm_mm.registry.reader import Reader
from namm_mm.runs import Journal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(  # not importorskip: Ray reads the environment when imported
        find_spec("ray") is None, reason="Ray is not installed: pip install 'namm-mm[ray]'"
    ),
]

SETTINGS = ExecutionSettings("ray", workers=2, retries=1)
PARTS = [Task(number / 3) for number in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def journal(folder: Path) -> Iterator[Journal]:
    with closing(Journal(folder / "journal.jsonl")) as journal:
        yield journal


@pytest.fixture(scope="module")
def engine(folder: Path, journal: Journal) -> Iterator[Execution[Task]]:
    """Two workers; Ray starts with the first test and stops after the last."""
    environment = dict(os.environ)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, *ENDING)]
    others = set(Path(tempfile.gettempdir()).glob("namm-*"))
    try:
        execution = start(SETTINGS, MakeSquares(folder), journal)
    except RunError as error:
        if (reason := why_ray_cannot_start(str(error))) is not None:
            pytest.skip(reason)
        raise
    assert dict(os.environ) == environment
    assert [signal.getsignal(number) for number in (signal.SIGINT, *ENDING)] == handlers
    places = set(Path(tempfile.gettempdir()).glob("namm-*")) - others
    yield execution
    execution.close()
    assert any(not place.exists() for place in places), "Ray's folder stayed"
    assert [signal.getsignal(number) for number in (signal.SIGINT, *ENDING)] == handlers


def test_results_are_those_of_serial_execution(
    engine: Execution[Task], folder: Path, tmp_path: Path
) -> None:
    done: list[int] = []
    found = engine.run(PARTS, done.append)
    with closing(Journal(tmp_path / "journal.jsonl")) as journal:
        serial = Serial(Squares(folder), journal).run(PARTS)
    assert [r["square"] for r in found] == [r["square"] for r in serial]
    assert done == [1, 2, 3, 4, 5, 6]
    assert {r["threads"] for r in found} == {"1"}
    assert os.getpid() not in {r["pid"] for r in found}


def test_what_the_journal_has_is_not_done_again(
    engine: Execution[Task], journal: Journal, folder: Path
) -> None:
    before = [journal.get(part.key) for part in PARTS]
    assert engine.run(PARTS) == before
    assert len((folder / "journal.jsonl").read_text().splitlines()) == len(journal)


def test_a_lost_worker_is_replaced_and_its_unit_retried(
    engine: Execution[Task], folder: Path
) -> None:
    units = [Task(10.5), Task(11.5, deaths=1), Task(12.5)]
    assert [r["square"] for r in engine.run(units)] == [10.5**2, 11.5**2, 12.5**2]
    assert len(list(folder.glob("11.5-*"))) == 1


def test_a_unit_that_kills_every_worker_is_given_up_and_the_rest_is_kept(
    engine: Execution[Task], journal: Journal
) -> None:
    with pytest.raises(RunError, match="lost 2 workers, one after the other"):
        engine.run([Task(20.0, deaths=99), *(Task(21.0 + n) for n in range(4))])
    assert journal.get("20.0") is None
    assert journal.get("21.0") is not None


def test_an_error_of_the_work_is_raised_here_and_not_repeated(engine: Execution[Task]) -> None:
    with pytest.raises(UsageError, match=r"^no square of 30\.0$"):
        engine.run([Task(30.0, wrong=True)])
    assert engine.run([Task(31.0)])[0]["square"] == 31.0**2


def test_sigterm_is_the_runs_own_while_ray_is_there(engine: Execution[Task]) -> None:
    def press(done: int) -> None:
        if done == 1:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()

    with stoppable(), pytest.raises(Stopped, match="SIGTERM"):
        engine.run([Task(50.0), Task(51.0, seconds=1.5)], press)
    assert engine.run([Task(52.0)])[0]["square"] == 52.0**2


def test_ctrl_c_stops_a_run_which_then_goes_on(engine: Execution[Task], journal: Journal) -> None:
    units = [Task(40.0), Task(41.0, seconds=1.5), Task(42.0)]

    def press(done: int) -> None:  # when two are there, this process waits for the slow one
        if done == 2:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        engine.run(units, press)
    assert signal.getsignal(signal.SIGINT) is handler
    assert [journal.get(unit.key) is not None for unit in units] == [True, False, True]
    assert [r["square"] for r in engine.run(units)] == [40.0**2, 41.0**2, 42.0**2]


def test_settings_come_from_a_name_or_a_mapping() -> None:
    from namm_mm.execution import settings

    def read(value: object) -> tuple[ExecutionSettings, list[str]]:
        reader = Reader({"execution": value}, "")
        found = settings.read(reader)
        return found, [*reader.problems, *settings.problems(found)]

    assert read("serial") == (ExecutionSettings(), [])
    found, problems = read({"name": "ray", "workers": 1, "retries": 0})
    assert (found, problems) == (ExecutionSettings("ray", workers=1, retries=0), [])
    assert Reader(found.as_mapping(), "").data["retries"] == 0
    assert "expected execution=ray beside it" in read({"name": "serial", "workers": 2})[1][0]
    crowded = read({"name": "ray", "workers": 5000})[1]
    assert len(crowded) == 1
    assert crowded[0].startswith("execution.workers: got 5000, expected at most ")
    assert (
        "GPUs in all for 1 worker(s)"
        in read({"name": "ray", "workers": 1, "gpus_per_worker": 99})[1][0]
    )


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from namm_mm.execution import settings

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (said,) = settings.problems(ExecutionSettings("ray", workers=1))
    assert "pip install 'namm-mm[ray]'" in said
