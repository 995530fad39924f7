"""A wheel holds the whole package and nothing else, and works in an environment of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

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


def test_the_wheel_holds_neither_research_nor_tests(built: Path) -> None:
    folders = {name.split("/")[0] for name in files_of_wheel(built / "direct")}
    assert folders == {"namm_mm"}


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel alone; what the wheel needs is borrowed from this one."""
    folder = tmp_path_factory.mktemp("installed")
    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for site in {Path(entry).resolve() for entry in sys.path if entry.endswith("site-packages")}:
        for path in site.iterdir():
            ours = "namm_mm" in path.name or "plugin" in path.name or path.suffix == ".pth"
            if not ours and not (borrowed / path.name).exists():
                (borrowed / path.name).symlink_to(path)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    (wheel,) = (built / "direct").glob("*.whl")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--no-deps",
            "--no-index",
            wheel,
        ],
        check=True,
        capture_output=True,
    )
    scheme = sysconfig.get_path("purelib", vars={"base": str(environment)})
    (Path(scheme) / "borrowed.pth").write_text(f"{borrowed}\n")
    return environment / "bin"


def namm_mm(installed: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed / "namm-mm", *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


def test_an_installed_wheel_lists_what_it_holds(installed: Path, tmp_path: Path) -> None:
    done = namm_mm(installed, tmp_path, "list", "policy", "adapter")
    assert done.returncode == 0, done.stderr
    assert {"h2o", "namm", "text", "decision_transformer"} <= set(done.stdout.split())


def test_an_installed_wheel_says_that_builders_are_in_a_clone(
    installed: Path, tmp_path: Path
) -> None:
    done = namm_mm(installed, tmp_path, "build", "pocket-rl")
    assert done.returncode == 2
    assert "no builders are installed" in done.stderr
    assert "Clone the repository and run `pip install -e research`" in done.stderr


def test_an_installed_wheel_explains_itself(installed: Path, tmp_path: Path) -> None:
    done = namm_mm(installed, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "namm-mm transfer" in done.stdout
    done = namm_mm(installed, tmp_path, "completion", "words", "transfer", "experiment=poc")
    assert done.stdout.split() == ["experiment=pocket"]
    done = namm_mm(installed, tmp_path, "completion", "bash")
    assert "complete -o default -F _namm_mm namm-mm" in done.stdout


def test_an_installed_wheel_plans_a_transfer(installed: Path, tmp_path: Path) -> None:
    done = namm_mm(installed, tmp_path, "transfer", "--plan")
    assert done.returncode == 0, done.stderr
    assert "pocket_video" in done.stdout


def test_an_installed_wheel_runs_and_reports(installed: Path, tmp_path: Path, tiny: Path) -> None:
    model = ["adapter.model=" + str(tiny / "text"), "adapter.dtype=float32"]
    task = ["task.words=100", "task.families=[passkey]", "limit=1", "folder=run", "wandb=disabled"]
    done = namm_mm(installed, tmp_path, "evaluate", *model, *task, "policy=h2o", "budget=tokens:32")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    (line,) = (tmp_path / "run" / "records.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert record["policy"] == "h2o"
    assert not record["error"]
