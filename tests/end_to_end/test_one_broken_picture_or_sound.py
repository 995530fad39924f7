"""One broken picture or sound is an error of its sample: the others are scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_samples import errors
from PIL import Image

from namm_mm.sound import write_wav

CPU = {"dtype": "float32", "device": "cpu"}


@pytest.fixture(autouse=True)
def _in_tiny_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)


def _ask(folder: Path, field: str, names: list[str]) -> None:
    line = {"question": "What?", "options": ["x", "y"], "answer": "B"}
    rows: list[dict[str, Any]] = [{**line, field: name, "id": name} for name in names]
    text = "\n".join(json.dumps(row) for row in rows)
    (folder / "questions.jsonl").write_text(text, encoding="utf-8")


def test_image_qa(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (40, 30), "red").save(folder / "good.png")
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.png").write_bytes(b"")
    names = ["good.png", "cut.png", "text.png", "empty.png", "absent.png"]
    _ask(folder, "images", names)
    adapter = {"name": "image", "model": "image", **CPU}
    found = errors(tmp_path, adapter, {"name": "image_qa", "source": str(folder)})
    assert found["good.png"] == ""
    assert all(name in found[name] for name in names[1:])


def test_speech_qa(tmp_path: Path) -> None:
    folder = tmp_path / "sounds"
    folder.mkdir()
    tone = np.sin(np.arange(8000) / 8).astype(np.float32) / 2
    write_wav(folder / "good.wav", tone, 16_000)
    (folder / "text.wav").write_text("no sound")
    (folder / "empty.wav").write_bytes(b"")
    write_wav(folder / "none.wav", tone[:0], 16_000)
    names = ["good.wav", "text.wav", "empty.wav", "none.wav", "absent.wav"]
    _ask(folder, "sound", names)
    adapter = {"name": "speech", "model": "speech", **CPU}
    found = errors(tmp_path, adapter, {"name": "speech_qa", "source": str(folder)})
    assert found["good.wav"] == ""
    assert all(name in found[name] for name in names[1:])
