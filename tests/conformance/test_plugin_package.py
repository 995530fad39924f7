"""A real third-party package: installed, found through its entry points, and run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import documents
import pytest

from namm_mm.runs import read_records

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[1] / "plugin_package"
GUIDE = PACKAGE.parents[1] / "docs" / "how-to" / "add-an-adapter.md"


def guide() -> dict[str, str]:
    """The files that the guide shows, by name."""
    return {block.title: block.text for block in documents.blocks(GUIDE) if block.title}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the guide, and nothing else."""
    folder = tmp_path_factory.mktemp("melody")
    for name, text in guide().items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def environment(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a Python that has the guide's package installed by pip, without network."""
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    target = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", target, source], check=True
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


def test_its_experiment_runs(environment: dict[str, str], source: Path, tmp_path: Path) -> None:
    configs = str(source / "configs")
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


def test_the_guide_shows_every_file_of_the_package_in_full() -> None:
    files = {
        path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8")
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".toml", ".yaml") and "build" not in path.parts
    }
    shown = guide()
    assert sorted(shown) == sorted(files)
    for name, text in files.items():
        assert shown[name] == text, f"{name} has changed; the guide shows:\n{shown[name]}"


@pytest.mark.slow
def test_the_tests_of_the_guide_pass(environment: dict[str, str], source: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_adapter_of_the_guide_is_as_short_as_promised() -> None:
    lines = (PACKAGE / "namm_mm_melody" / "adapter.py").read_text().splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(code) <= 50
