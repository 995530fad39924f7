"""A run that was stopped and resumed is one W&B run, and W&B never holds a run up."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from synthetic_records import PROVENANCE, make_records
from wandb_reader import OfflineRun, read_offline_run

from namm_mm.records import Record
from namm_mm.runs import RunInfo, read_state
from namm_mm.runs.jsonl import write_records
from namm_mm.tracking import open_run
from namm_mm.tracking.connection import unreachable
from namm_mm.tracking.wandb_start import end_quietly

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


RECORDS = [record for record in make_records(4) if record.task == "long_text"]
KEY = "long_text/accuracy/smollm2-135m/full"


def play(folder: Path, records: list[Record], generations: range, *, stopped: bool) -> None:
    info = RunInfo("pocket", "transfer", {}, PROVENANCE)
    with open_run(folder, info, wandb_mode="offline") as tracker:
        for record in records:
            tracker.record(record)
        for generation in generations:
            tracker.log({"fitness/best": float(generation)}, axis="gen", at=generation)
        tracker.finish("stopped" if stopped else "ok")


def offline_run(folder: Path) -> OfflineRun:
    """The only W&B run of a run folder, when its service has written all of it."""
    (only,) = (folder / "wandb").glob("offline-run-*")
    end = time.monotonic() + 30
    found = read_offline_run(only)
    while found.exit_code is None and time.monotonic() < end:
        time.sleep(0.05)
        found = read_offline_run(only)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped twice, each time within a sample's policies, and resumed to its end."""
    folder = tmp_path_factory.mktemp("run")
    play(folder, RECORDS[:3], range(3), stopped=True)
    time.sleep(1)  # the names of W&B's folders count seconds
    play(folder, RECORDS[3:7], range(2, 4), stopped=True)  # generation 2 is done again
    time.sleep(1)
    play(folder, RECORDS[7:], range(4, 6), stopped=False)
    return folder


def test_there_is_one_run_with_the_id_of_the_folder(folder: Path) -> None:
    (only,) = (folder / "wandb").glob("offline-run-*")
    identity = read_state(folder).id
    assert identity
    assert only.name.endswith(f"-{identity}")


def test_its_curves_and_summary_are_those_of_all_records(folder: Path) -> None:
    run = offline_run(folder)
    mine = [record for record in RECORDS if record.policy == "full"]
    curve = [(row["sample"], row[KEY]) for row in run.history if KEY in row]
    values = [record.value or 0.0 for record in mine]
    assert curve == [(n, pytest.approx(sum(values[:n]) / n)) for n in range(1, len(mine) + 1)]
    assert run.summary[f"{KEY}/n"] == len(mine)
    assert run.summary[f"{KEY}/mean"] == pytest.approx(sum(values) / len(values))
    generations = [row["gen"] for row in run.history if "fitness/best" in row]
    assert generations == list(range(6))
    assert run.exit_code == 0


def test_records_of_processes_that_had_names_of_their_own_are_one_group(tmp_path: Path) -> None:
    names = ["one", "two"]
    records = [
        dataclasses.replace(r, provenance=dataclasses.replace(PROVENANCE, run=names[i % 2]))
        for i, r in enumerate(RECORDS)
    ]
    write_records(tmp_path, records)
    play(tmp_path, [], range(0), stopped=False)
    assert offline_run(tmp_path).summary[f"{KEY}/n"] == 4


CHILD = """
import sys, psutil
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from synthetic_records import PROVENANCE, make_records
from namm_mm.runs import RunInfo
from namm_mm.tracking import open_run
info = RunInfo("p", "transfer", {}, PROVENANCE)
with open_run(Path(sys.argv[1]), info, wandb_mode="offline") as tracker:
    for number, record in enumerate(make_records(1)):
        tracker.record(record)
        if number == 3:
            for child in psutil.Process().children(recursive=True):
                child.kill()
                child.wait()
"""


def test_a_killed_service_costs_one_line_and_no_record(tmp_path: Path) -> None:
    helpers = str(Path(__file__).parents[1] / "helpers")
    command = [sys.executable, "-c", CHILD, str(tmp_path), helpers]
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("W&B stopped (")
    assert line.endswith("The run goes on; records.jsonl has everything.")
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 15
    assert read_state(tmp_path).status == "ok"


@pytest.fixture
def silent() -> Iterator[int]:
    """Port of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port that nobody listens at."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("kind", ["silent", "closed"])
def test_without_a_network_online_becomes_offline_in_seconds(
    tmp_path: Path,
    kind: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{request.getfixturevalue(kind)}")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    end_quietly()  # W&B is imported and its service is there: what that takes is not the network
    start = time.time()
    with open_run(tmp_path, RunInfo("p", "t", {}, PROVENANCE), wandb_mode="online") as tracker:
        assert Path(tracker.places["W&B"]).is_dir()
        tracker.record(RECORDS[0])
    (said,) = [r for r in caplog.records if r.name.startswith("namm_mm")]
    assert "cannot be reached" in said.message
    assert "wandb sync" in said.message
    assert said.created - start < 10


@pytest.fixture
def answering() -> Iterator[int]:
    """Port of a server that answers, if with an error."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        yield server.server_port


def test_a_server_is_reachable_where_it_answers(silent: int, closed: int, answering: int) -> None:
    assert unreachable(f"http://127.0.0.1:{answering}") == ""
    assert "refused" in unreachable(f"http://127.0.0.1:{closed}")
    assert "timed out" in unreachable(f"http://127.0.0.1:{silent}", 0.2)


def test_finding_an_address_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()

    def slow(*_: object, **__: object) -> None:
        stop.wait(10)
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", slow)
    try:
        assert "no answer within 0.1 seconds" in unreachable("http://example.org", 0.1)
    finally:
        stop.set()
