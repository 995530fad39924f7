"""`import namm_mm` is light, and the source folders are reached only through the package."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(
    code: str, folder: Path, compiled: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in `folder`; compiled modules are kept in `compiled`, as a user's are."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=kept | {"PYTHONPYCACHEPREFIX": str(compiled)} if compiled else None,
        capture_output=True,
        text=True,
        check=False,
    )


HEAVY = ("torch", "transformers", "gymnasium", "wandb", "plotly", "av", "decord", "h5py", "hydra")


@pytest.mark.parametrize("module", ["namm_mm", "namm_mm.cli", "namm_mm.experiment.settings"])
def test_importing_loads_nothing_heavy_and_takes_under_half_a_second(
    module: str, tmp_path: Path
) -> None:
    # CPU time, not wall time: a busy machine must not fail the test.
    code = (
        f"import sys, time; start = time.process_time(); import {module}; "
        "seconds = time.process_time() - start; "
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]; "
        "assert not heavy, heavy; assert seconds < 0.5, seconds"
    )
    result = python(code, tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("words", [["--help"], ["transfer", "--help"], ["list"]])
def test_what_only_prints_loads_nothing_heavy_and_takes_under_04_seconds(
    words: list[str], tmp_path: Path
) -> None:
    code = (
        f"import sys, time; from namm_mm.cli import main; main({words!r}); "
        "seconds = time.process_time(); "
        f"heavy = [m for m in {(*HEAVY, 'numpy')!r} if m in sys.modules]; "
        "assert not heavy, heavy; assert seconds < 0.4, seconds"
    )
    # A cold cache is not what is measured: the first run compiles.
    results = [python(code, tmp_path, tmp_path / "compiled") for _ in range(4)]
    assert any(result.returncode == 0 for result in results), results[-1].stderr


@pytest.mark.parametrize("folder", ["adapters", "tasks"])
def test_a_source_folder_cannot_be_imported_under_a_second_name(folder: str) -> None:
    result = python(f"import {folder}", ROOT)
    assert result.returncode == 1
    assert f"import it as 'namm_mm.{folder}'" in result.stderr


@pytest.mark.parametrize("folder", ["adapters", "tasks", "configs", "tests"])
def test_the_installation_puts_no_general_name_on_the_path(folder: str, tmp_path: Path) -> None:
    result = python(
        f"import importlib.util as u; assert u.find_spec({folder!r}) is None; "
        "import namm_mm.adapters, namm_mm.tasks, namm_mm.configs",
        tmp_path,
    )
    assert result.returncode == 0, result.stderr


def test_the_linked_folders_are_part_of_the_package() -> None:
    for folder in ("adapters", "tasks", "configs"):
        spec = importlib.util.find_spec(f"namm_mm.{folder}")
        assert spec is not None
        assert spec.origin is not None
        assert (ROOT / "namm_mm" / folder).is_symlink()
