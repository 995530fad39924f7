"""What an evolution tells W&B, read back from its offline file."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from text_checkpoints import save as save_model
from wandb_reader import OfflineRun, read_offline_run

from namm_mm.cli import main
from namm_mm.evolution import loop

pytestmark = pytest.mark.slow

CONFIGS = str(Path(__file__).parent / "configs")
GENERATIONS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evolution of three generations, whose whole state is kept after the second."""
    place = tmp_path_factory.mktemp("tracked")
    save_model(place / "text", max_position_embeddings=2048)
    words = ["~stages.second", f"stages.first.generations={GENERATIONS}", "wandb=offline"]
    words += ["stages.first.validate_every=2", "stages.first.steps=plain"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(loop, "STATE_EVERY", 2)
        command = ["evolve", "--configs", CONFIGS, "evolution=tiny", "folder=run"]
        assert main([*command, *words]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> OfflineRun:
    (wandb_folder,) = (folder / "wandb").glob("offline-run-*")
    end = time.monotonic() + 20  # W&B's service writes the last records a moment after `finish`
    found = read_offline_run(wandb_folder)
    while found.exit_code is None and time.monotonic() < end:
        time.sleep(0.05)
        found = read_offline_run(wandb_folder)
    return found


def test_every_generation_is_a_point_of_every_curve(folder: Path, run: OfflineRun) -> None:
    lines = [json.loads(x) for x in (folder / "generations.jsonl").read_text().splitlines()]
    points = [row for row in run.history if "fitness/best" in row]
    assert [row["gen"] for row in points] == list(range(GENERATIONS))
    for row, line in zip(points, lines, strict=True):
        for name in ("best", "mean", "std"):
            assert row[f"fitness/{name}"] == line[f"fitness/{name}"]
        assert row["search/sigma"] == line["search/sigma"] > 0
        assert row["search/condition"] == line["search/condition"] >= 1
        assert row["seconds"] >= 0
        layers = [row["kept/layer_00"], row["kept/layer_01"]]
        assert layers == pytest.approx(line["kept/by_layer"], abs=1e-4)
        assert row["kept/mean"] == pytest.approx(sum(layers) / 2)
    for family in ("fitness/*", "search/*", "kept/*", "validation/*"):
        assert run.metrics[family] == "gen"


def test_validations_are_points_too(run: OfflineRun) -> None:
    points = [row for row in run.history if "validation/fitness" in row]
    assert [row["gen"] for row in points] == [0, 2, 3]
    assert {"validation/passkey", "validation/cloze", "validation/kept"} <= points[0].keys()


def test_the_best_namm_and_the_state_are_artifacts_with_cards(
    folder: Path, run: OfflineRun
) -> None:
    best = [artifact for artifact in run.artifacts if artifact[0] == "namm"]
    states = [artifact for artifact in run.artifacts if artifact[0] == "evolution-state"]
    assert best[-1][1] == "model"
    assert set(best[-1][3]) == {"best.safetensors", "best.json"}
    card = json.loads((folder / "best.json").read_text())
    assert best[-1][2]["about"] == card["about"]
    assert best[-1][2]["training"]["generations"] == GENERATIONS
    assert [state[2]["total"] for state in states] == [2, GENERATIONS]
    assert set(states[-1][3]) == {"state.safetensors", "space-1.safetensors"}
    assert (folder / "artifacts" / "evolution-state" / "state.safetensors").is_file()


def test_the_run_is_named_and_its_end_summed_up(folder: Path, run: OfflineRun) -> None:
    assert (run.group, run.job_type, run.exit_code) == ("tiny", "train", 0)
    assert {"adapter:text", "policy:namm"} <= set(run.tags)
    assert run.config["stages"]["first"]["population"] == 4
    assert run.summary["generations"] == GENERATIONS
    assert run.summary["finished"] is True
    assert run.summary["best"] >= run.summary["start"]
