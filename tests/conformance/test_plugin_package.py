"""A real third-party package: installed, found through its entry points, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from namm_mm_melody.policy import Stride

from namm_mm.runs import read_records
from namm_mm.testing import check_policy

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[1] / "plugin_package"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a Python that has the package installed by pip, without network."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    copy = tmp_path_factory.mktemp("source") / "melody"
    shutil.copytree(PACKAGE, copy)  # a build writes into its source
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, copy], check=True
    )
    return {**os.environ, "PYTHONPATH": str(target)}


def namm_mm(environment: dict[str, str], folder: Path, *words: str) -> str:
    """Run the command line elsewhere and return what it printed."""
    command = [sys.executable, "-c", "import sys; from namm_mm.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_names_are_listed_with_where_they_come_from(
    environment: dict[str, str], tmp_path: Path
) -> None:
    listed = namm_mm(environment, tmp_path, "list", "adapter", "task", "policy")
    for name in ("melody", "next_note", "stride", "readers"):
        (line,) = (line for line in listed.splitlines() if line.split()[:1] == [name])
        assert line.endswith("[from namm_mm_melody]")


def test_its_experiment_runs(environment: dict[str, str], tmp_path: Path) -> None:
    configs = str(PACKAGE / "configs")
    words = ("--configs", configs, "experiment=melody", f"output={tmp_path}", "wandb=disabled")
    printed = namm_mm(environment, tmp_path, "transfer", *words)
    assert "stride" in printed
    (folder,) = (tmp_path / "melody").iterdir()
    records, _ = read_records(folder)
    assert {(r.policy, r.budget) for r in records} == {
        ("full", "full"),
        ("h2o", "fraction:0.5"),
        ("stride", "match:h2o"),
    }
    assert not any(record.error for record in records)
    bars = [r.kept_by_index["bar"] for r in records if r.policy == "stride"]
    assert all(len(bar) == 12 and 0 < sum(bar) < 12 for bar in bars)


def test_its_policy_keeps_its_promises() -> None:
    check_policy(Stride())


def test_an_adapter_takes_fifty_lines_at_most() -> None:
    lines = (PACKAGE / "namm_mm_melody" / "adapter.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(code) <= 50
