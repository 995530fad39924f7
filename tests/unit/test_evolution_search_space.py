"""A search space reaches what it says, in steps that are worth what they say."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from compare import assert_copied

from namm_mm.errors import RunError, UsageError
from namm_mm.evolution.search_space import CENTRAL, Recorder, SearchSpace, fit_steps, indices
from namm_mm.execution import Serial
from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS
from namm_mm.policies.namm import NammPolicy
from namm_mm.runs import Journal

pytestmark = pytest.mark.numeric


def watched() -> Recorder:
    """What a start may see: attention with a heavy tail, as in a real model."""
    namm = Namm.from_pretrained("provisional")
    recorder = Recorder(NammPolicy(namm))
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        received = torch.rand(1, 1, 80, 1, generator=generator) ** 6 * 0.2
        texture = 0.3 + 0.7 * torch.rand(1, 1, 80, 17, generator=generator)
        lengths = torch.full((1, 1), 80)
        recorder.views.append((received * texture, torch.arange(80).flip(0)[None, None], lengths))
    return recorder


def test_subspaces_hold_the_output_side() -> None:
    layout = LAYOUTS["bam"]
    assert indices(layout, "all").tolist() == list(range(4172))
    assert indices(layout, "output").tolist() == list(range(4096, 4172))
    assert indices(layout, "score").tolist() == list(range(4146, 4172))
    with pytest.raises(UsageError, match="'mlp' has no subspace 'output'"):
        indices(LAYOUTS["mlp"], "output")


def test_point_zero_is_the_origin_and_only_the_subspace_moves(tmp_path: Path) -> None:
    origin = torch.randn(4172, dtype=torch.float64)
    index = indices(LAYOUTS["bam"], "score")
    space = SearchSpace(origin, index, torch.randn(26, 26, dtype=torch.float64))
    points = torch.stack([torch.zeros(26), torch.randn(26)]).double()
    vectors = space.vectors(points)
    assert_copied(vectors[0], origin.float())
    assert_copied(vectors[1, :4146], origin[:4146].float())
    assert bool((vectors[1, 4146:] != vectors[0, 4146:]).all())
    space.save(tmp_path / "space.safetensors")
    again = SearchSpace.load(tmp_path / "space.safetensors")
    torch.testing.assert_close(again.vectors(points), vectors)
    (tmp_path / "space.safetensors").write_bytes(b"torn")
    with pytest.raises(RunError, match="cannot read the search space"):
        SearchSpace.load(tmp_path / "space.safetensors")


def test_a_fitted_step_moves_scores_by_their_spread() -> None:
    namm, seen = Namm.from_pretrained("provisional"), watched()
    index = indices(namm.layout, "score")
    basis = fit_steps(namm, index, seen)
    scores, gradients = seen.gradients(namm, index)
    low, high = torch.quantile(scores, torch.tensor([CENTRAL, 1 - CENTRAL]).double())
    central = (scores >= low) & (scores <= high)
    ends = torch.quantile(scores[central], torch.tensor([0.16, 0.84]).double())
    spread = (ends[1] - ends[0]) / 2
    moved = (gradients[central] @ basis).square().mean(0).sqrt() / spread
    assert float(moved.max()) == pytest.approx(1.0, abs=1e-3)
    assert int((moved > 0.5).sum()) >= 8  # the weaker directions are held back


def test_nothing_can_be_fitted_to_equal_scores() -> None:
    namm = dataclasses.replace(Namm.from_pretrained("provisional"), parameters=torch.zeros(4172))
    with pytest.raises(RunError, match="scores all tokens alike"):
        fit_steps(namm, indices(namm.layout, "score"), watched())
    with pytest.raises(RunError, match="met no eviction"):
        fit_steps(namm, indices(namm.layout, "score"), Recorder(NammPolicy(namm)))


class Unit:
    def __init__(self, key: str) -> None:
        self.key = key


def test_finished_units_are_not_repeated_and_a_torn_line_is(tmp_path: Path) -> None:
    done: list[str] = []

    def work(unit: Unit) -> dict[str, float]:
        done.append(unit.key)
        return {"value": 0.1 + 0.2, "number": len(done)}

    journal = Journal(tmp_path / "journal.jsonl")
    first = Serial(work, journal).run([Unit("a"), Unit("b")])
    journal.close()
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text()[:-10])  # killed while it wrote b
    again = Journal(path)
    second = Serial(work, again).run([Unit("a"), Unit("b"), Unit("c")])
    again.close()
    assert done == ["a", "b", "b", "c"]
    assert second[0] == first[0]
    assert first[0]["value"] == 0.1 + 0.2
    lines = path.read_text().splitlines()
    assert [json.loads(line)["key"] for line in (lines[0], *lines[2:])] == ["a", "b", "c"]
