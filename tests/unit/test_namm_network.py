"""Scores: who sees whom, ragged caches, ages, statistics, the flat layout."""

from __future__ import annotations

import math

import pytest
import torch
from compare import assert_copied
from torch import Tensor

from namm_mm.errors import UsageError
from namm_mm.namm import Namm
from namm_mm.namm.bam import Bam
from namm_mm.namm.features import RunningStatistics, age_embedding, features
from namm_mm.namm.mlp import Mlp
from namm_mm.namm.params import LAYOUTS, layout_of

pytestmark = pytest.mark.numeric


def dense_bam(vector: Tensor, z: Tensor) -> Tensor:
    """One sequence (slot, 25) with a dense mask and slices of the vector by their numbers."""
    w_qkv, b_qkv = vector[:2400].view(25, 96), vector[2400:2496]
    w_o, b_o = vector[2496:4096].view(32, 50), vector[4096:4146]
    w_l, b_l = vector[4146:4171], vector[4171]
    query, key, value = torch.split(z @ w_qkv + b_qkv, 32, dim=-1)
    older = torch.ones(len(z), len(z)).tril(-1).bool()
    weights = (query @ key.T / math.sqrt(32)).masked_fill(older, -math.inf).softmax(-1)
    residual, gate = torch.split(weights @ value @ w_o + b_o, 25, dim=-1)
    scores: Tensor = (z * (1 + gate) + residual) @ w_l + b_l
    return scores


def test_ragged_sequences_score_as_each_does_alone() -> None:
    vector = 0.3 * torch.randn(4172)
    lengths = torch.tensor([[7, 12], [1, 4]])
    z = torch.randn(2, 2, 12, 25)
    scores = Bam.from_vector(vector).score(z, lengths)
    for row in range(2):
        for head in range(2):
            filled = int(lengths[row, head])
            alone = dense_bam(vector, z[row, head, :filled])
            torch.testing.assert_close(scores[row, head, :filled], alone, atol=1e-5, rtol=1e-5)


def test_full_sequences_score_as_with_a_dense_mask() -> None:
    vector = 0.3 * torch.randn(4172)
    z = torch.randn(1, 3, 20, 25)
    scores = Bam.from_vector(vector).score(z, torch.full((1, 3), 20))
    wanted = torch.stack([dense_bam(vector, head) for head in z[0]])[None]
    torch.testing.assert_close(scores, wanted, atol=1e-5, rtol=1e-5)


def test_heads_of_very_different_sizes_are_scored_alone_and_some_not_at_all() -> None:
    namm = Namm(0.3 * torch.randn(4172), torch.zeros(17), torch.ones(17))
    slots, lengths = 900, torch.tensor([[900, 20, 0]])
    spectrum, age = torch.rand(1, 3, slots, 17), torch.arange(slots).flip(0).expand(1, 3, slots)
    scores = namm.score(spectrum, age, lengths)
    padded = Bam.from_vector(namm.parameters).score(namm.features(spectrum, age), lengths)
    for head, size in enumerate(lengths[0].tolist()):
        torch.testing.assert_close(
            scores[0, head, :size], padded[0, head, :size], atol=1e-5, rtol=1e-5
        )
    assert not scores[0, 2].any()


def test_a_token_is_scored_by_itself_and_newer_ones_only() -> None:
    bam = Bam.from_vector(0.3 * torch.randn(4172))
    z = torch.randn(1, 1, 10, 25)
    changed = z.clone()
    changed[0, 0, 4] += 1.0
    lengths = torch.tensor([[10]])
    moved = (bam.score(changed, lengths) - bam.score(z, lengths)).abs()[0, 0] > 1e-6
    assert moved[:5].all()
    assert not moved[5:].any()


def test_mlp_scores_each_token_alone() -> None:
    vector = torch.randn(676)
    z = torch.randn(1, 2, 6, 25)
    hidden = z + torch.relu(z @ vector[:625].view(25, 25) + vector[625:650])
    wanted = hidden @ vector[650:675] + vector[675]
    scores = Mlp.from_vector(vector).score(z, torch.full((1, 2), 6))
    torch.testing.assert_close(scores, wanted)


def test_the_zero_vector_keeps_everything() -> None:
    namm = Namm(torch.zeros(4172), torch.zeros(17), torch.ones(17))
    scores = namm.score(
        torch.rand(1, 2, 9, 17), torch.arange(9).expand(1, 2, 9), torch.full((1, 2), 9)
    )
    assert (scores == 0).all()


def test_age_embedding_is_right_at_any_age() -> None:
    for age in (0, 1, 159, 32_768, 1_000_000):
        phases = [age * 50000 ** (-k / 4) for k in range(4)]
        wanted = [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
        ours = age_embedding(torch.tensor([age]))[0]
        torch.testing.assert_close(ours, torch.tensor(wanted), atol=1e-6, rtol=0)


def test_a_bin_that_never_varies_gives_finite_features() -> None:
    out = features(torch.zeros(3, 17), torch.arange(3), torch.zeros(17), torch.zeros(17))
    assert out.isfinite().all()


def test_statistics_merge_in_any_order() -> None:
    batches = [torch.rand(n, 5, 17) + n for n in (1, 3, 2)]
    whole = torch.cat([batch.reshape(-1, 17) for batch in batches]).double()
    left, right = RunningStatistics(), RunningStatistics()
    left.add(batches[2])
    right.add(batches[0])
    right.add(batches[1])
    left.merge(right)
    mean, variance = left.freeze()
    torch.testing.assert_close(mean, whole.mean(0).float())
    torch.testing.assert_close(variance, whole.var(0, correction=0).float())
    assert left.count == 30


def test_empty_statistics_cannot_be_frozen() -> None:
    with pytest.raises(UsageError, match="no spectra"):
        RunningStatistics().freeze()


@pytest.mark.parametrize(("scorer", "size"), [("bam", 4172), ("mlp", 676), ("linear", 26)])
def test_layouts_have_the_official_sizes_and_round_trip(scorer: str, size: int) -> None:
    layout = LAYOUTS[scorer]
    vector = torch.randn(size)
    assert layout.size == size
    assert layout_of(vector) is layout
    assert_copied(layout.join(layout.split(vector)), vector)
