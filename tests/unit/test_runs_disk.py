"""Full disks and moved folders are told as what they are, and leave whole files only."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_records import PROVENANCE, make_record

from namm_mm.errors import RunError, UsageError
from namm_mm.records import SCHEMA_VERSION, Record
from namm_mm.runs import Journal, LocalTracker, RunInfo, read_records, read_state
from namm_mm.runs.disk import explained, write_whole
from namm_mm.runs.jsonl import record_line, write_records
from namm_mm.runs.lines import LineFile

INFO = RunInfo("pocket", "transfer", {}, PROVENANCE)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk does, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_record_that_does_not_fit_is_taken_back_and_the_whole_ones_are_counted(
    tmp_path: Path,
) -> None:
    size = len(record_line(make_record())) + 1
    tracker = LocalTracker(tmp_path, INFO)
    with limited(2 * size + size // 2):
        for _ in range(2):
            tracker.record(make_record())
        with pytest.raises(RunError, match=r"ulimit -f.*2 whole records are kept.*folder="):
            tracker.record(make_record())
    assert (tmp_path / "records.jsonl").stat().st_size == 2 * size
    tracker.record(make_record(sample="s009"))  # there is room again
    tracker.finish("ok")
    records, problems = read_records(tmp_path)
    assert [record.sample for record in records] == ["s000", "s000", "s009"]
    assert not problems


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")],
)
def test_every_file_of_a_run_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    tracker = LocalTracker(tmp_path, INFO)
    tracker.record(make_record())
    monkeypatch.setattr("namm_mm.runs.local.write_whole", fails)
    monkeypatch.setattr("namm_mm.runs.local.write_state", fails)
    monkeypatch.setattr("namm_mm.runs.lines.LineFile.write", fails)
    calls: list[Callable[[], None]] = [
        lambda: tracker.record(make_record()),
        lambda: tracker.log({"a": 1.0}, axis="gen", at=0),
        lambda: tracker.table("t", ["a"], [[1]]),
        lambda: tracker.artifact("a", [], "model", {}),
        lambda: tracker.finish("ok"),
    ]
    for call in calls:
        with pytest.raises(RunError, match=f"{words}. 1 whole records are kept"):
            call()


def test_a_journal_says_what_is_wrong(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "evaluations.jsonl")
    with limited(100):
        journal.put("one", {"fitness": 1.0})
        with pytest.raises(RunError, match=r"ulimit -f.*run the same command again"):
            journal.put("two", {"fitness": "x" * 200})
    journal.close()
    with closing(Journal(tmp_path / "evaluations.jsonl")) as again:
        assert (len(again), again.get("one")) == (1, {"fitness": 1.0})


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_folder_that_is_gone_is_told_with_its_records(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "run"

    def play() -> None:
        with LocalTracker(folder, INFO) as tracker:
            tracker.record(make_record())
            tracker.record(make_record())
            if how == "moved":
                folder.rename(tmp_path / "elsewhere")
            else:
                shutil.rmtree(folder)
            tracker.record(make_record())

    with pytest.raises(RunError, match=rf"was {how} while the run was going.* 2 "):
        play()
    assert not folder.exists()
    if how == "moved":
        assert len(read_records(tmp_path / "elsewhere")[0]) == 2


def test_an_error_of_a_library_on_a_full_disk_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="the disk is full"), explained(tmp_path):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RunError, match="moved or removed"), explained(tmp_path / "gone"):
        raise FileNotFoundError(2, "No such file", str(tmp_path / "gone" / "state"))
    with pytest.raises(ValueError, match="something else"), explained(tmp_path):
        raise ValueError("something else")
    with pytest.raises(UsageError), explained(tmp_path / "gone"):
        raise UsageError("told already")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    write_whole(file, "old")
    with limited(10), pytest.raises(OSError, match="File too large"):
        write_whole(file, "new" * 100)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_line_that_was_cut_off_is_closed(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_bytes(b"whole\nbroken")
    lines = LineFile(file)
    lines.write("next")
    lines.close()
    assert file.read_bytes() == b"whole\nbroken\nnext\n"


@given(st.text(st.characters(codec=None)))
def test_records_hold_any_string(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    # JSON has one spelling for a character and for its two surrogates side by side.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    folder = tmp_path_factory.mktemp("run")
    record = make_record(sample=text, answer=text, details={"said": text, text: 1})
    write_records(folder, [record, make_record()])
    assert read_records(folder) == ([record, make_record()], [])


@pytest.mark.parametrize("text", ["\ud83d", "a\u2028b", "a\u0085b", "\x1c", "\x00", "\ufeff"])
def test_a_string_that_is_no_text_does_not_break_the_file(tmp_path: Path, text: str) -> None:
    with LocalTracker(tmp_path, INFO) as tracker:
        tracker.record(make_record(answer=text))
        tracker.record(make_record())
        tracker.log({"word": text}, axis="gen", at=0)
        tracker.table("words", ["word"], [[text]])
    assert [record.answer for record in read_records(tmp_path)[0]] == [text, "48213"]
    event = json.loads((tmp_path / "events.jsonl").read_text())
    assert event["values"] == {"word": text}


def test_newer_records_do_not_block_a_folder(tmp_path: Path) -> None:
    newer: Record = make_record(schema=SCHEMA_VERSION + 1)
    write_records(tmp_path, [newer, make_record(), newer])
    records, (problem,) = read_records(tmp_path)
    assert records == [make_record()]
    assert "2 lines from 1 on: written by a newer version" in problem


def test_a_damaged_state_is_unknown(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"status": "ok", "provenance": 3}', '{"provenance": {}}', "\xff"):
        (tmp_path / "run.json").write_text(text, encoding="latin-1")
        assert read_state(tmp_path).status == "unknown"
    (tmp_path / "run.json").write_text('{"status": "preempted"}')
    assert read_state(tmp_path).status == "stopped"
