"""The text examples run as printed, and what they print is right."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest
import text_checkpoints

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.models import packaged as packaged_model
from namm_mm.tasks.long_text import LongTextTask

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


EXAMPLES = Path(__file__).parents[2] / "examples"

SMOLLM2 = packaged_model.MODELS["smollm2-135m-instruct"]


def run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_the_transfer_example_generates_and_says_what_was_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = text_checkpoints.save(tmp_path, max_position_embeddings=4096)
    run("transfer.py", model, monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"The pass key is \.\.\. .*; it was \d{5}", lines[-4])
    found = re.fullmatch(r"kept (\d+) of (\d+) tokens, \d+\.\d MiB", lines[-3])
    assert found
    kept, seen = map(int, found.groups())
    assert 0 < kept < seen
    by_layer = [int(tokens) for tokens in lines[-2].removeprefix("by layer: ").split()]
    assert abs(sum(by_layer) / len(by_layer) - kept) <= 1
    positions = [int(position) for position in lines[-1].partition(": ")[2].split()]
    assert len(positions) == 20
    assert positions == sorted(set(positions))


def test_the_comparison_holds_equal_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = text_checkpoints.save(tmp_path, max_position_embeddings=4096)
    run("compare.py", model, "1", monkeypatch=monkeypatch)
    cells = (re.findall(r"[\w.%-]+", line) for line in capsys.readouterr().out.splitlines())
    rows = {cell[0]: cell[1] for cell in cells if len(cell) == 4 and cell[1].endswith("%")}
    assert rows.pop("full") == "100%"
    assert set(rows) == {"namm", "h2o", "l2", "recency", "random"}
    assert len(set(rows.values())) == 1
    assert int(rows["namm"].rstrip("%")) < 100


@pytest.mark.slow
@pytest.mark.skipif(
    not (packaged_model.cached(SMOLLM2) or packaged_model.source(SMOLLM2)),
    reason=f"needs `{SMOLLM2.install}`",
)
def test_smollm2_finds_a_pass_key_that_a_recent_window_does_not_hold() -> None:
    from dataclasses import replace

    adapter = TextAdapter("smollm2-135m-instruct", device="cpu")
    adapter.load()
    task = LongTextTask(families=["passkey"], words=120)
    sample = task.samples("test", 1, seed=0)[0]
    newest = replace(sample, context=sample.context[-len(sample.context) // 4 :])
    whole, part = (
        task.score(s, adapter.answer(adapter.prepare(s), None)) for s in (sample, newest)
    )
    assert (whole.value, part.value) == (1.0, 0.0)
    assert whole.details["log_probability"] > part.details["log_probability"] + 5
