"""Ours equals the official modules, array by array, and the check notices when it does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from namm_mm.memory.select import select
from namm_mm.policies.base import LayerView, Threshold
from namm_mm.testing.__main__ import main
from namm_mm.testing.parity import check_parity

pytestmark = pytest.mark.numeric

GOLDEN = Path(__file__).parent / "golden"
Arrays = dict[str, Any]


def golden(name: str) -> Arrays:
    with np.load(GOLDEN / f"golden_{name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("bam", {"frames", "ema", "embedding", "score", "retained_idx", "kept_position_ids"}
         | {"kept_key", "hann32", "recency_table_head", "stats.mean", "stats.var", "stats.num"}),
        ("mlp", {"age", "score", "retained_idx", "kept_position_ids"}),
        ("select", {"idx"}),
    ],
)  # fmt: skip
def test_every_recorded_array_is_reproduced(name: str, groups: set[str]) -> None:
    deviations = check_parity(GOLDEN / f"golden_{name}.npz")
    assert {deviation.group.partition(".")[2] for deviation in deviations} == groups
    assert all(deviation.passed for deviation in deviations), deviations


def test_the_command_prints_a_table_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parity", str(GOLDEN / "golden_bam.npz")]) == 0
    printed = capsys.readouterr().out
    assert "bam.score" in printed
    assert "all within tolerance" in printed


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("bam.u1.c0.l0.attn", "bam.ema"),
        ("bam.u2.l1.frames", "bam.frames"),
        ("bam.u1.l0.embedding", "bam.embedding"),
        ("bam.u3.l1.score", "bam.score"),
        ("bam.params", "bam.score"),
        ("bam.u0.l0.kept_position_ids", "bam.kept_position_ids"),
        ("bam.hann32", "bam.hann32"),
    ],
)
def test_one_changed_array_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, group: str
) -> None:
    arrays = golden("bam")
    arrays[key] = arrays[key] + np.ones_like(arrays[key])
    np.savez(tmp_path / "changed.npz", **arrays)
    assert main(["parity", str(tmp_path / "changed.npz")]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "TOO FAR" in line]
    assert group in {line[0] for line in lines}


def test_a_recorded_nan_fails_the_check(tmp_path: Path) -> None:
    arrays = golden("bam")
    arrays["bam.u0.l0.ema"] = np.full_like(arrays["bam.u0.l0.ema"], np.nan)
    np.savez(tmp_path / "nan.npz", **arrays)
    assert main(["parity", str(tmp_path / "nan.npz")]) == 1


def test_renamed_and_shortened_recordings_are_understood(tmp_path: Path) -> None:
    """Other prefixes and fewer updates and layers: sizes come from the keys."""
    arrays = {
        f"other{name[3:]}": array
        for name, array in golden("bam").items()
        if not name.startswith(("bam.u3", "bam.u2")) and (".l1." not in name or "stat" in name)
    }
    np.savez(tmp_path / "other.npz", **arrays)
    deviations = {d.group: d for d in check_parity(tmp_path / "other.npz")}
    assert deviations["other.score"].arrays == 2
    assert all(deviation.passed for deviation in deviations.values())


def test_what_is_no_recording_ends_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "foreign.npz", weight=np.zeros(3))
    np.savez(tmp_path / "empty.npz", **{"bam.params": golden("bam")["bam.params"]})
    for name in ("text.npz", "foreign.npz", "empty.npz", "missing.npz"):
        assert main(["parity", str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err


def official_rule(scores: Tensor, limit: int | None) -> list[list[int]]:
    """Which tokens each head keeps, in plain loops: (head, slot) scores of one row."""
    ranked = []
    for head in scores.tolist():
        forced = [*head[:-1], math.inf]  # the newest token always stays
        best = sorted(range(len(head)), key=lambda i: -forced[i])[:limit]
        ranked.append((best, sum(forced[i] >= 0 for i in best)))
    keep = max(above for _, above in ranked)
    return [sorted(best[:keep]) for best, _ in ranked]


@pytest.mark.parametrize("limit", [None, 1, 7, 24, 100])
@pytest.mark.parametrize("shift", [-3.0, -0.5, 0.0, 0.5])
def test_selection_follows_the_official_rule(limit: int | None, shift: float) -> None:
    scores = torch.randn(1, 4, 33) + shift
    view = LayerView(
        layer=0,
        layers=1,
        keys=scores,
        values=scores,
        positions=torch.arange(33).expand(1, 4, 33),
        lengths=torch.full((1, 4), 33),
        seen=33,
    )
    index, counts = select(scores, view, Threshold(limit))
    wanted = official_rule(scores[0], limit)
    assert index[0].tolist() == wanted
    assert counts.tolist() == [[len(wanted[0])] * 4]
