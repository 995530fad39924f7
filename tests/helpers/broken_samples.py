"""Samples that cannot be read, runs over them, and what their records say."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.experiment.settings import ExperimentSettings
from namm_mm.records import Record
from namm_mm.runs import read_records

LONE = "\ud83d"
"""Half of a pair that JSON can say and no text file can hold."""


def settings(adapter: dict[str, Any], task: dict[str, Any], split: str) -> ExperimentSettings:
    cell = {"adapter": adapter, "task": task, "interval": 16, "split": split}
    return from_mapping(
        {
            "name": "broken",
            "wandb": "disabled",
            "policies": ["full"],
            "cells": {"one": cell},
        }
    )


def errors(
    tmp_path: Path, adapter: dict[str, Any], task: dict[str, Any], split: str = "test"
) -> dict[str, str]:
    """Run a cell, go on with it, and return what each sample's record says."""
    folder = tmp_path / "run"
    asked = settings(adapter, task, split)
    records = run(asked, folder=folder).records
    again = run(asked, folder=folder).records
    assert [r.sample for r in again] == [r.sample for r in records]
    assert [r.sample for r in read_records(folder)[0]] == [r.sample for r in records]
    return {record.sample: told(record) for record in records}


def told(record: Record) -> str:
    assert (record.value is None) == bool(record.error)
    return record.error


def write_lines(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def break_videos(folder: Path) -> dict[str, str]:
    """Write videos that cannot be read, and return them by name with what is said of them."""
    whole = (folder / "whole.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<html>404</html>")
    (folder / "folder.mp4").mkdir()
    (folder / "dangling.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(folder / "pipe.mp4")
    return {
        "gone.mp4": "no such video",
        "cut.mp4": "cannot read",
        "empty.mp4": "cannot read",
        "page.mp4": "cannot read",
        "folder.mp4": "is a folder",
        "dangling.mp4": "no such video",
        "pipe.mp4": "a pipe",
        "a\0b.mp4": "no such video",
        "long" * 90 + ".mp4": "too long",
    }


def check(found: dict[str, str], good: set[str], broken: dict[str, str]) -> None:
    """`good` samples are scored, and each of `broken` is an error that says what it says."""
    assert set(found) == good | set(broken)
    assert {name for name, error in found.items() if not error} == good
    for name, words in broken.items():
        assert words in found[name], (name, found[name])


class Rows:
    """Rows of a benchmark, and what the record of each is to say."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.expected: dict[str, str] = {}

    def add(self, row: Any, name: str = "", words: str = "") -> None:
        """Add a row; without a name it is one of which no sample can be made."""
        self.rows.append(row)
        self.expected[name or f"row-{len(self.rows)}"] = words

    def check(self, found: dict[str, str]) -> None:
        assert set(found) == set(self.expected)
        for name, words in self.expected.items():
            assert words in found[name], (name, found[name])
            assert bool(words) == bool(found[name]), (name, found[name])
