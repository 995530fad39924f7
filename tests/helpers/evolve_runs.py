"""Runs of `namm-mm evolve` on a tiny model, and what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compare import assert_repeated
from safetensors.torch import load_file

from namm_mm.cli import main

CONFIGS = str(Path(__file__).parents[1] / "end_to_end" / "configs")


COMMAND = ["evolve", "--configs", CONFIGS, "evolution=tiny"]


def lines(path: Path) -> list[dict[str, Any]]:
    """All but the times."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in found]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("generations.jsonl", "validations.jsonl"):
        assert lines(one / name) == lines(other / name)
    for name in ("state.safetensors", "best.safetensors"):
        assert_repeated(load_file(one / name), load_file(other / name))


def keys(folder: Path) -> list[str]:
    return [line["key"] for line in lines(folder / "evaluations.jsonl")]


def refused(words: list[str], capsys: pytest.CaptureFixture[str], folder: str = "no") -> str:
    code = main([*COMMAND, f"folder={folder}", *words])
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert "Traceback" not in said
    assert "internal error" not in said
    return said
