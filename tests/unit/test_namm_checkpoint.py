"""What is saved is what is loaded, natively and in the official format."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from compare import assert_copied

from namm_mm.evolution import CmaEs
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.namm.official import export_official

CARD = {"about": "a test", "made_by": "a test", "licence": "Apache-2.0", "scores": {"kv": 0.5}}


def random_namm(size: int = 4172, scorer: str = "bam") -> Namm:
    return Namm(
        torch.randn(size),
        torch.randn(17),
        torch.rand(17) + 0.1,
        gamma=0.999,
        interval=128,
        scorer=scorer,
        card=CARD,
    )


def assert_same(one: Namm, other: Namm) -> None:
    for name in ("parameters", "mean", "variance"):
        assert_copied(getattr(one, name), getattr(other, name))
    for name in ("gamma", "n_fft", "hop", "interval", "scorer"):
        assert getattr(one, name) == getattr(other, name)


@pytest.mark.parametrize(("size", "scorer"), [(4172, "bam"), (676, "mlp"), (26, "linear")])
def test_native_files_round_trip(tmp_path: Path, size: int, scorer: str) -> None:
    namm = random_namm(size, scorer)
    loaded = Namm.from_pretrained(save(namm, tmp_path / "namm_mine.safetensors"))
    assert_same(namm, loaded)
    assert loaded.card["name"] == "mine"
    assert {key: loaded.card[key] for key in CARD} == CARD


@pytest.mark.parametrize(("size", "scorer"), [(4172, "bam"), (676, "mlp")])
def test_official_files_round_trip(tmp_path: Path, size: int, scorer: str) -> None:
    namm = random_namm(size, scorer)
    assert_same(namm, Namm.from_pretrained(export_official(namm, tmp_path / "latest.pt")))


def test_an_official_file_has_only_what_is_known(tmp_path: Path) -> None:
    path = export_official(random_namm(), tmp_path / "ckpt.pt", samples=9, generation=4)
    content = torch.load(path, weights_only=True)
    buffers = "stored_buffers_to_save.token_embedding_0_output_"
    expected = {"mean", *(buffers + kind for kind in ("mean", "var", "num"))}
    assert set(content["evolution_state"]) == expected
    assert content["evolution_state"][f"{buffers}mean"].shape == (1, 1, 1, 17)
    assert content["iter_num"] == 4
    assert "best_val_loss" not in content


def test_a_file_of_the_official_trainer_is_read(tmp_path: Path) -> None:
    """Laid out as its trainer writes it: best loss as a numpy scalar, no settings of ours."""
    mean, best = torch.randn(4172), torch.randn(4172)
    buffers = "stored_buffers_to_save.token_embedding_0_output_"
    state = {"mean": mean, "best_member": best, "sigma": torch.tensor(0.065), "g": torch.tensor(7)}
    state |= {f"{buffers}mean": torch.rand(1, 1, 1, 17), f"{buffers}var": torch.ones(1, 1, 1, 17)}
    content = {"evolution_state": state, "iter_num": 7, "best_val_loss": np.float64(1.25)}
    torch.save(content, tmp_path / "latest.pt")
    namm = Namm.from_pretrained(tmp_path / "latest.pt")
    assert_copied(namm.parameters, mean)
    assert_copied(
        Namm.from_pretrained(tmp_path / "latest.pt", vector="best_member").parameters, best
    )
    assert_copied(namm.mean, state[f"{buffers}mean"].view(17))
    assert (namm.gamma, namm.interval, namm.scorer) == (0.99, 512, "bam")
    assert (namm.card["iter_num"], namm.card["best_val_loss"]) == (7, 1.25)


def test_an_exported_search_goes_on_where_it_was(tmp_path: Path) -> None:
    """The official file of a running search holds both: the vector, and the search to resume."""
    search = CmaEs(torch.randn(676).float(), 0.1, 8, seed=2)
    search.tell(search.ask().sum(1))
    namm = dataclasses.replace(random_namm(676, "mlp"), parameters=search.mean.float())
    path = export_official(namm, tmp_path / "iter_1.pt", evolution=search.state(), generation=1)
    assert_same(namm, Namm.from_pretrained(path))
    state = torch.load(path, weights_only=True)["evolution_state"]
    resumed = CmaEs(torch.zeros(676), 0.1, 8)
    resumed.load(state)
    torch.testing.assert_close(resumed.ask(), search.ask(), atol=1e-6, rtol=0)
