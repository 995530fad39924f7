from __future__ import annotations

import json
import logging
import math
import re
from pathlib import Path

import numpy as np
import pytest
from synthetic_records import PROVENANCE, make_record, make_records

from namm_mm.errors import RunError, UsageError
from namm_mm.records import SCHEMA_VERSION
from namm_mm.runs import RunInfo, Tracker, provenance, read_records, read_state
from namm_mm.tracking import open_run, resolve_wandb_mode

INFO = RunInfo("pocket", "transfer", {"seed": 3}, PROVENANCE, ("task:long_text",), ("a note",))


def local(folder: Path) -> Tracker:
    return open_run(folder, INFO, wandb_mode="disabled")


def test_records_come_back_equal(tmp_path: Path) -> None:
    written = make_records(6)
    with local(tmp_path) as tracker:
        for record in written:
            tracker.record(record)
    read, problems = read_records(tmp_path)
    assert not problems
    assert read == written


def test_a_record_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    with local(tmp_path) as tracker:
        for count in (1, 2):
            tracker.record(make_record())
            assert len((tmp_path / "records.jsonl").read_text().splitlines()) == count


def test_a_cut_off_last_line_costs_only_itself(tmp_path: Path) -> None:
    with local(tmp_path) as tracker:
        for index in range(3):
            tracker.record(make_record(sample=f"s{index}"))
    file = tmp_path / "records.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    read, (problem,) = read_records(tmp_path)
    assert [record.sample for record in read] == ["s0", "s1"]
    assert "line 3 is cut off" in problem

    with local(
        tmp_path
    ) as tracker:  # continued: the new record must not be glued to the broken line
        tracker.record(make_record(sample="s9"))
    read, (problem,) = read_records(tmp_path)
    assert [record.sample for record in read] == ["s0", "s1", "s9"]
    assert "line 3 is no record" in problem


def test_a_record_of_a_newer_version_is_left_out_and_told(tmp_path: Path) -> None:
    with local(tmp_path) as tracker:
        tracker.record(make_record())
        tracker.record(make_record(sample="newer", schema=SCHEMA_VERSION + 1))
        tracker.record(make_record(sample="last"))
    read, (problem,) = read_records(tmp_path)
    assert [record.sample for record in read] == ["s000", "last"]
    assert re.search(r"line 2.*newer version.*left out.*pip install", problem)


def test_a_folder_without_records_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no records.*run folder that holds records\.jsonl"):
        read_records(tmp_path)


def test_arrays_are_plain_and_no_machine_path_is_written(tmp_path: Path) -> None:
    details = {
        "video": tmp_path / "clip.mp4",
        "below": Path("videos/clip.mp4"),
        "scores": np.array([0.5, math.inf]),
        "n": np.int64(3),
    }
    with local(tmp_path) as tracker:
        tracker.record(make_record(details=details))
    (read,), _ = read_records(tmp_path)
    assert read.details == {
        "video": "clip.mp4",
        "below": "videos/clip.mp4",
        "scores": [0.5, math.inf],
        "n": 3,
    }
    assert str(tmp_path) not in (tmp_path / "records.jsonl").read_text()


def test_the_state_tells_a_run_that_is_going_from_its_end(tmp_path: Path) -> None:
    assert read_state(tmp_path).status == "unknown"
    tracker = local(tmp_path)
    assert read_state(tmp_path).status == "running"
    tracker.finish("ok", {"best": 1.0})
    state = read_state(tmp_path)
    assert (state.status, state.notes, state.config) == ("ok", ("a note",), {"seed": 3})
    assert state.summary == {"best": 1.0}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "failed"), (KeyboardInterrupt, "stopped")]
)
def test_a_run_that_breaks_keeps_its_records_and_says_so(
    tmp_path: Path, error: type[BaseException], status: str
) -> None:
    def play() -> None:
        with local(tmp_path) as tracker:
            tracker.record(make_record())
            raise error("out of luck")

    with pytest.raises(error):
        play()
    assert read_state(tmp_path).status == status
    assert len(read_records(tmp_path)[0]) == 1


def test_an_artifact_is_copied_with_its_card(tmp_path: Path) -> None:
    weights = tmp_path / "namm.safetensors"
    weights.write_bytes(b"weights")
    with local(tmp_path / "run") as tracker:
        tracker.artifact("best", [weights], "model", {"parameters": 4172})
    folder = tmp_path / "run/artifacts/best"
    assert (folder / "namm.safetensors").read_bytes() == b"weights"
    card = json.loads((folder / "artifact.json").read_text())
    assert card == {
        "kind": "model",
        "files": ["namm.safetensors"],
        "metadata": {"parameters": 4172},
    }


def test_a_folder_that_cannot_be_written_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot be written.*output="):
        local(tmp_path / "file" / "run")


def test_a_full_disk_is_a_run_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    tracker = local(tmp_path)
    tracker.record(make_record())
    with monkeypatch.context() as patch:
        patch.setattr("namm_mm.runs.lines.LineFile.write", full)
        with pytest.raises(RunError, match=r"the disk is full\. 1 whole records are kept"):
            tracker.record(make_record())
    tracker.finish("failed")


def test_the_mirror_may_fail_at_any_call_and_is_mentioned_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        places = {"W&B": "nowhere"}  # noqa: RUF012

        def __init__(self, *_: object, **__: object) -> None: ...

        def record(self, _: object) -> None:
            raise OSError("the service is gone")

    monkeypatch.setattr("namm_mm.tracking.WandbTracker", Broken)
    with (
        caplog.at_level(logging.WARNING),
        open_run(tmp_path, INFO, wandb_mode="offline") as tracker,
    ):
        for index in range(5):
            tracker.record(make_record(sample=f"s{index}"))
        assert "W&B" not in tracker.places
    assert len(read_records(tmp_path)[0]) == 5
    assert read_state(tmp_path).status == "ok"
    assert [r.message for r in caplog.records] == [
        "W&B stopped (OSError: the service is gone). The run goes on; records.jsonl has everything."
    ]


def test_wandb_mode_follows_the_environment_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    assert resolve_wandb_mode(None) == "online"
    assert resolve_wandb_mode("disabled") == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    assert resolve_wandb_mode(None) == "offline"
    with pytest.raises(UsageError, match="Did you mean 'offline'"):
        resolve_wandb_mode("of-line")


def test_provenance_names_versions_and_device_and_no_path() -> None:
    found = provenance.collect("deadbeef99", "cpu")
    assert {"python", "torch", "transformers", "numpy"} <= set(found.versions)
    assert found.device.startswith("cpu")
    assert found.run.endswith("-deadbe")
    assert "/" not in "".join([found.run, found.commit, *found.versions.values()])
