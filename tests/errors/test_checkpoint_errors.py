"""A wrong checkpoint is refused with what was found, what was expected, and what to do."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

from namm_mm.errors import RunError, UsageError
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save

BUFFERS = "stored_buffers_to_save.token_embedding_0_output_"


def official(path: Path, **changes: Any) -> Path:
    state = {
        "mean": torch.zeros(4172),
        f"{BUFFERS}mean": torch.zeros(1, 1, 1, 17),
        f"{BUFFERS}var": torch.ones(1, 1, 1, 17),
    }
    state |= changes
    state = {name: value for name, value in state.items() if value is not None}
    torch.save({"evolution_state": state}, path)
    return path


def native(path: Path) -> Path:
    card = {"about": "a test", "made_by": "remake it", "licence": "Apache-2.0"}
    return save(Namm(torch.ones(4172), torch.zeros(17), torch.ones(17), card=card), path)


def with_nan(size: int) -> torch.Tensor:
    vector = torch.zeros(size)
    vector[5] = torch.nan
    return vector


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mean": torch.zeros(4171)}, r"got \(4171,\), expected 4172 .* 676 \(mlp\)"),
        ({"mean": with_nan(4172)}, "1 NaN or infinite of 4172"),
        ({"mean": torch.full((4172,), torch.inf)}, "4172 NaN or infinite of 4172"),
        ({"mean": None}, "expected a tensor 'mean'"),
        ({f"{BUFFERS}var": None}, "expected a tensor .*output_var"),
        ({f"{BUFFERS}var": with_nan(17).view(1, 1, 1, 17) + 1}, "variance .*1 NaN"),
        ({f"{BUFFERS}var": torch.zeros(1, 1, 1, 17)}, "running statistics are empty"),
        ({f"{BUFFERS}mean": torch.zeros(1, 1, 1, 34)}, r"wrong mean .* expected shape \(17,\)"),
    ],
)
def test_a_broken_official_file(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Namm.from_pretrained(official(tmp_path / "broken.pt", **changes))
    assert "broken.pt" in str(caught.value)


def no_torch_file(path: Path) -> None:
    path.write_text("not a checkpoint")


def no_evolution_state(path: Path) -> None:
    torch.save({"model": {}}, path)


def foreign_object(path: Path) -> None:
    torch.save({"evolution_state": {}, "args": PurePosixPath("x")}, path)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"evolution_state": {}}))


@pytest.mark.parametrize("write", [no_torch_file, no_evolution_state, foreign_object, bare_pickle])
def test_a_file_that_is_no_checkpoint(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"other.pt.*expected .*evolution_state"):
        Namm.from_pretrained(tmp_path / "other.pt")


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    path = native(tmp_path / "x.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"damaged.*remake it"):
        Namm.from_pretrained(path)


def test_a_missing_card_is_asked_for(tmp_path: Path) -> None:
    path = native(tmp_path / "x.safetensors")
    path.with_suffix(".json").unlink()
    with pytest.raises(UsageError, match=r"no readable card.*Copy both files"):
        Namm.from_pretrained(path)


def test_an_incomplete_card_says_what_is_missing(tmp_path: Path) -> None:
    place = native(tmp_path / "x.safetensors").with_suffix(".json")
    card = json.loads(place.read_text())
    del card["gamma"]
    place.write_text(json.dumps(card))
    with pytest.raises(UsageError, match=r"incomplete.*expected gamma"):
        Namm.from_pretrained(tmp_path / "x.safetensors")


def test_a_native_file_of_something_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "x.safetensors")
    native(tmp_path / "y.safetensors").with_suffix(".json").rename(tmp_path / "x.json")
    with pytest.raises(RunError, match="belongs to another file"):
        Namm.from_pretrained(tmp_path / "x.safetensors")


def test_an_unknown_name_offers_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'provisional'"):
        Namm.from_pretrained("provisonal")


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pt"])
def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="expected a file that exists"):
        Namm.from_pretrained(tmp_path / name)


def test_a_card_must_say_where_a_namm_comes_from(tmp_path: Path) -> None:
    namm = Namm(torch.ones(4172), torch.zeros(17), torch.ones(17), card={"about": "x"})
    with pytest.raises(UsageError, match="missing: made_by, licence"):
        save(namm, tmp_path / "x.safetensors")


def test_an_unknown_vector_offers_the_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'mean'"):
        Namm.from_pretrained(official(tmp_path / "x.pt"), vector="means")
