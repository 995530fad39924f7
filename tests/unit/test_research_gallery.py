"""The pictures of the README are small, and come from committed records by a committed script."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image
from synthetic_records import make_records, with_histories

from namm_mm.runs.jsonl import write_records

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


GALLERY = Path(__file__).parents[2] / "research" / "gallery"
PICTURES = ("scores.png", "video.png", "episode.png")


@pytest.fixture
def make(tmp_path: Path) -> ModuleType:
    """The script, in a folder of its own."""
    pytest.importorskip("matplotlib")
    shutil.copytree(GALLERY, tmp_path / "gallery")
    spec = importlib.util.spec_from_file_location("make_gallery", tmp_path / "gallery/make.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_the_committed_records_give_the_pictures_again(make: ModuleType) -> None:
    for name in PICTURES:
        (make.HERE / name).unlink()
    assert make.main([]) == 0
    assert "(research/gallery/video.png)" in (GALLERY.parents[1] / "README.md").read_text()
    for name in PICTURES:
        with Image.open(make.HERE / name) as drawn, Image.open(GALLERY / name) as committed:
            assert abs(drawn.height - committed.height) <= 2
            assert abs(drawn.width - committed.width) <= 2


def test_the_gallery_is_small() -> None:
    sizes = [file.stat().st_size for file in GALLERY.rglob("*") if file.is_file()]
    assert sum((GALLERY / name).stat().st_size for name in PICTURES) < 1_000_000
    assert sum(sizes) < 2_500_000


def test_a_run_is_taken_slimmed(
    make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write_records(run, with_histories(make_records(30), run, ("s000", "s005")))
    monkeypatch.setattr(make, "LARGEST", 200_000)
    assert make.main([str(run)]) == 0
    assert (make.RUN / "records.jsonl").stat().st_size <= 200_000
    assert 0 < len(list((make.RUN / "history").iterdir())) <= 3 * 5
