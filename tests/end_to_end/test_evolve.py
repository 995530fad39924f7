"""`namm-mm evolve` on a tiny model: whole, in pieces, killed, changed, and in workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from compare import assert_copied
from evolve_runs import COMMAND, assert_same_run, keys, lines
from ray_units import why_ray_cannot_start
from text_checkpoints import save as save_model

from namm_mm.cli import main
from namm_mm.commands.compose import compose
from namm_mm.evolution import CmaEs, run_folder
from namm_mm.evolution.reading import RENAMED, from_mapping
from namm_mm.evolution.state import State
from namm_mm.execution.progress import Silent
from namm_mm.namm import Namm

pytestmark = pytest.mark.slow


RESULTS = Path(__file__).parents[2] / "research" / "results"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny model, which the configuration calls `text`."""
    folder = tmp_path_factory.mktemp("evolve")
    save_model(folder / "text", max_position_embeddings=2048)
    return folder


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of one run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main([*COMMAND, "folder=whole"]) == 0
    return place / "whole"


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_a_run_goes_through_its_stages_and_leaves_a_namm(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generations = lines(whole / "generations.jsonl")
    assert [line["generation"] for line in generations] == list(range(5))
    assert [line["stage"] for line in generations] == ["first"] * 3 + ["second"] * 2
    for line in generations:
        assert line["fitness/mean"] <= line["fitness/best"]
        assert line["fitness/std"] > 0
        assert 0 < line["kept/mean"] < 1
        assert len(line["kept/by_layer"]) == 2
    validations = lines(whole / "validations.jsonl")
    assert [line["generation"] for line in validations] == [0, 2, 3, 3, 5]
    last = [line["validation/fitness"] for line in validations if line["stage"] == "second"]
    namm = Namm.from_pretrained(whole / "best.safetensors")
    assert namm.card["scores"]["validation fitness"] == max(last)
    assert namm.card["training"]["generations"] == 5
    start = Namm.from_pretrained("provisional")
    assert namm.gamma == start.gamma
    assert_copied(namm.mean, start.mean)
    evaluated = main(
        [
            *("evaluate", "adapter.model=text", "task.words=100", "task.families=[passkey]"),
            *("policy.checkpoint=whole/best.safetensors", "limit=1", "wandb=disabled"),
        ]
    )
    assert evaluated == 0
    assert namm.card["about"] in " ".join(capsys.readouterr().out.split())


def test_a_run_in_pieces_equals_a_whole_one(whole: Path, place: Path) -> None:
    for _ in range(4):  # a generation each, and a whole stage change
        assert main([*COMMAND, "folder=pieces", "minutes=0.00001"]) == 0
    assert len(lines(place / "pieces" / "generations.jsonl")) == 4
    assert main([*COMMAND, "folder=pieces"]) == 0
    assert_same_run(place / "pieces", whole)
    assert len(keys(place / "pieces")) == len(set(keys(place / "pieces")))
    assert main([*COMMAND, "folder=pieces"]) == 0  # nothing is left to do
    assert_same_run(place / "pieces", whole)


def test_a_killed_run_goes_on_where_it_was(whole: Path, place: Path) -> None:
    """SIGKILL between two prompts of a generation; nothing that was finished is repeated."""
    folder = place / "killed"
    journal = folder / "evaluations.jsonl"
    program = "import sys; from namm_mm.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *COMMAND, "folder=killed"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    wanted = len(lines(whole / "evaluations.jsonl")) // 2
    try:
        while process.poll() is None and (
            not journal.is_file() or journal.read_bytes().count(b"\n") < wanted
        ):
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    before = keys(folder)
    assert wanted <= len(before) < len(keys(whole))
    with journal.open("a") as file:
        file.write('{"key": "torn')  # as if it had been killed while writing
    assert main([*COMMAND, "folder=killed"]) == 0
    assert_same_run(folder, whole)
    (folder / "evaluations.jsonl").write_text(journal.read_text().replace('{"key": "torn\n', ""))
    assert sorted(keys(folder)) == sorted(keys(whole))


def test_a_changed_configuration_is_refused_with_the_difference(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [*COMMAND, "folder=whole", "stages.first.sigma=0.5", "stages.second.generations=3"]
    before = (whole / "config.yaml").read_text()
    assert main(changed) == 2
    said = capsys.readouterr().err
    assert "- stages.first.sigma: 0.3 -> 0.5\n- stages.second.generations: 2 -> 3\n" in said
    assert "--anyway" in said
    assert (whole / "config.yaml").read_text() == before


def test_a_changed_configuration_is_taken_when_told(place: Path) -> None:
    assert main([*COMMAND, "folder=longer", "~stages.second", "stages.first.generations=1"]) == 0
    longer = [*COMMAND, "folder=longer", "~stages.second", "stages.first.generations=2"]
    assert main(longer) == 2
    assert main([*longer, "--anyway"]) == 0
    assert len(lines(place / "longer" / "generations.jsonl")) == 2


def test_a_run_of_an_earlier_version_is_continued(whole: Path, place: Path) -> None:
    """Its config.yaml has the earlier names of the penalty; the results are those of one run."""
    words = ["stages.first.penalty=0.5", "stages.first.free_fraction=0.2"]
    words += ["stages.first.loss_clip=4.0", "~stages.second", "stages.first.generations=2"]
    assert main([*COMMAND, *words, "folder=today"]) == 0
    assert main([*COMMAND, *words, "folder=earlier", "minutes=0.00001"]) == 0
    config = place / "earlier" / "config.yaml"
    text = config.read_text()
    for old, new in RENAMED.items():
        assert f"{new}: " in text
        text = text.replace(f"{new}: ", f"{old}: ")
    config.write_text(text)
    assert main([*COMMAND, *words, "folder=earlier"]) == 0
    assert_same_run(place / "earlier", place / "today")
    assert lines(place / "today" / "generations.jsonl") != lines(whole / "generations.jsonl")[:2]


@pytest.mark.parametrize("name", ["pure", "relative"])
def test_a_committed_run_has_the_settings_of_its_configuration(name: str, tmp_path: Path) -> None:
    """So that `namm-mm evolve evolution=NAME folder=COPY` continues it, without --anyway."""
    folder = tmp_path / name
    shutil.copytree(RESULTS / f"evolution_smollm2_{name}", folder)
    settings = from_mapping(compose("evolve", [f"evolution=smollm2_{name}"]))
    run_folder.prepare(folder, settings, anyway=False, progress=Silent())
    state = State.load(folder)
    assert state is not None
    assert state.position.total == len(lines(folder / "generations.jsonl"))
    stage = settings.stages[0]
    strategy = CmaEs(torch.zeros(26), stage.sigma, stage.population)
    strategy.load(state.strategy)
    assert strategy.generation == state.position.generation


def test_zeros_with_a_bias_keep_everything_at_first(place: Path) -> None:
    words = ["start.checkpoint=null", "start.statistics_prompts=1", "stages.first.steps=plain"]
    words += ["stages.first.generations=1", "~stages.second", "stages.first.fitness=likelihood"]
    assert main([*COMMAND, "folder=zeros", *words]) == 0
    first = lines(place / "zeros" / "validations.jsonl")[0]
    assert first["validation/kept"] == 1.0
    assert first["validation/fitness"] == pytest.approx(0.0, abs=1e-4)
    assert "measured" not in Namm.from_pretrained("provisional").card
    assert (
        "1 training prompts"
        in Namm.from_pretrained(place / "zeros" / "best.safetensors").card["statistics"]
    )


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'namm-mm[ray]'")
def test_ray_begins_a_run_and_loses_a_worker_and_serial_execution_ends_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is that of serial execution alone, bit for bit."""
    short = [*COMMAND, "~stages.second", "stages.first.generations=2"]
    assert main([*short, "folder=serial"]) == 0
    folder = place / "ray"

    def kill_a_worker() -> None:  # the first that has a prompt to evaluate
        end = time.monotonic() + 300
        while time.monotonic() < end:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if process.name().startswith("ray::Resident.do"):
                        process.kill()
                        return
            time.sleep(0.05)

    thread = threading.Thread(target=kill_a_worker, daemon=True)
    thread.start()
    workers = ["execution=ray", "execution.workers=2"]
    code = main([*short, "folder=ray", *workers, "minutes=0.00001"])
    said = capsys.readouterr().err
    if code == 1 and (reason := why_ray_cannot_start(said)) is not None:
        pytest.skip(reason)
    assert code == 0
    thread.join(timeout=10)
    assert "lost a worker" in said
    assert len(lines(folder / "generations.jsonl")) == 1
    assert main([*short, "folder=ray"]) == 0
    assert_same_run(folder, place / "serial")
    assert sorted(keys(folder)) == sorted(keys(place / "serial"))
    with suppress(psutil.NoSuchProcess):  # what ends between the two calls is gone as well
        left = [process.name() for process in psutil.Process().children(recursive=True)]
        assert not [name for name in left if name.startswith(("ray", "gcs_server"))]
