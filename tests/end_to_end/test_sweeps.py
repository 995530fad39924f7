"""`--multirun`: a folder for each combination, one W&B group, one report, and it can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from wandb_reader import read_offline_run

from namm_mm.cli import main
from namm_mm.runs import read_records, read_state

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


HERE = Path(__file__).parent
CELL = [
    "transfer",
    "--configs",
    str(HERE / "configs"),
    "experiment=tiny",
    "cells=[text]",
    "limit=1",
]
SWEEP = ["--multirun", "policy=recency,random", "seed=0,1"]
NAMES = [f"policy-{policy}_seed-{seed}" for policy in ("recency", "random") for seed in (0, 1)]


@pytest.fixture(scope="module")
def swept(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over two policies and two seeds."""
    folder = tmp_path_factory.mktemp("sweeps") / "mine"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny)
        assert main([*CELL, *SWEEP, f"folder={folder}"]) == 0
    return folder


def test_every_combination_has_a_run_folder_named_after_it(swept: Path) -> None:
    assert sorted(file.name for file in swept.iterdir() if file.is_dir()) == sorted(NAMES)
    for name in NAMES:
        records, _ = read_records(swept / name)
        policies = [record.policy for record in records]
        # The budget is matched to the NAMM, so that it runs beside the policy.
        assert policies == ["namm", name.split("_")[0].removeprefix("policy-")]
        assert {str(record.seed) for record in records} == {name[-1]}


def test_the_runs_are_one_group_in_wandb(swept: Path) -> None:
    groups = set()
    for name in NAMES:
        (folder,) = (swept / name / "wandb").glob("offline-run-*")
        groups.add(read_offline_run(folder).group)
    assert groups == {f"{swept.parent.name}-mine"}


def test_one_report_compares_all_runs_by_what_they_were_given(
    swept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (swept / "report.html").read_text(encoding="utf-8")
    assert all(
        f"policy={policy}, seed={seed}" in page for policy in ("recency",) for seed in (0, 1)
    )
    (swept / "report.html").unlink()
    assert main(["report", str(swept)]) == 0
    assert f"report: {swept}/report.html" in capsys.readouterr().out.replace("\n", "")
    assert (swept / "report.html").is_file()


def test_the_same_command_runs_only_what_is_missing(
    swept: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny)
    before = {name: (swept / name / "records.jsonl").read_bytes() for name in NAMES}
    (swept / NAMES[2] / "records.jsonl").write_bytes(before[NAMES[2]].splitlines(True)[0])
    (swept / NAMES[2] / "run.json").write_text("{}")
    assert main([*CELL, *SWEEP, f"folder={swept}"]) == 0
    assert capsys.readouterr().err.count("is there") == 3
    assert len(read_records(swept / NAMES[2])[0]) == 2
    assert (swept / NAMES[0] / "records.jsonl").read_bytes() == before[NAMES[0]]
    assert read_state(swept / NAMES[2]).status == "ok"


def test_a_run_that_fails_does_not_stop_the_others(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny)
    (tmp_path / "policy-random").write_text("a file where the folder of a run would be")
    words = ["policy=random,recency", f"folder={tmp_path}", "wandb=disabled"]
    assert main([*CELL, "--multirun", *words]) != 0
    assert "policy=random: " in capsys.readouterr().err
    assert len(read_records(tmp_path / "policy-recency")[0]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=0"], "nothing to sweep: got"),
        (
            ["policy=recency,rndom"],
            "policy=rndom: cells.text.policies: unknown policy: got 'rndom'",
        ),
        (["folder=a,b"], "folder= is one place for all runs of a sweep"),
        (["seed=0,1", "shard=1/2"], "a sweep has no shards"),
        (["seed=0,1", "--cfg", "job"], "--cfg is about one configuration"),
        (["policy=glob(zz*)"], "no name matches: got 'policy=glob(zz*)'"),
        (["seed=0,1", "policy=h2o", "policies=[l2]"], "policy= is one of policies="),
    ],
)
def test_what_cannot_be_swept_is_refused_before_any_run(
    words: list[str],
    said: str,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny)
    assert main([*CELL, "--multirun", *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tiny / "runs").exists()


def test_values_of_a_sweep_follow_hydras_grammar(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["policy=glob(sn*)", "budget=tokens:64,0.25", "seeds=[0,1],[2]", "limit=range(1,3)"]
    assert main(["transfer", "cells=[text]", "--multirun", *words, "--show"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# policy")]
    assert len(set(titles)) == 2 * 2 * 2
    assert titles[0] == "# policy=snapkv, budget=tokens:64, seeds=[0,1], limit=1"


def test_several_values_in_one_run_name_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "seed=0,1"]) == 2
    told = capsys.readouterr().err
    assert "several values of 'seed'" in told
    assert "`--multirun` makes a run of each. In one run: 'seeds=[0,1]'." in told
