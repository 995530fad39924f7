"""A wheel holds the whole package, whether it is built from the tree or from the sdist."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def files_of_tree() -> set[str]:
    found = set()
    for folder in ("namm_mm", "adapters", "tasks", "configs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".tmp":
                name = path.relative_to(ROOT).as_posix()
                found.add(name if folder == "namm_mm" else f"namm_mm/{name}")
    return found


def build(source: Path, output: Path, *kinds: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", output, source],
        check=True,
        capture_output=True,
    )


def files_of_wheel(folder: Path) -> set[str]:
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder / "direct", "--wheel")
    build(ROOT, folder / "source", "--sdist")
    (sdist,) = (folder / "source").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    build(unpacked, folder / "through_sdist", "--wheel")
    shutil.rmtree(folder / "unpacked")
    return folder


@pytest.mark.parametrize("way", ["direct", "through_sdist"])
def test_the_wheel_holds_exactly_the_tree(built: Path, way: str) -> None:
    assert files_of_wheel(built / way) == files_of_tree()


def test_the_wheel_holds_the_linked_folders(built: Path) -> None:
    names = files_of_wheel(built / "direct")
    assert {"namm_mm/adapters/base.py", "namm_mm/tasks/base.py", "namm_mm/py.typed"} <= names
    assert any(name.startswith("namm_mm/configs/") and name.endswith(".yaml") for name in names)
    assert any(name.startswith("namm_mm/assets/") for name in names)
