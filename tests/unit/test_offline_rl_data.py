"""D4RL's layout is read in all its variants, and what is wrong with a file is named."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.tasks.offline_rl import download
from namm_mm.tasks.offline_rl.data import (
    KEYS,
    Trajectories,
    join,
    read_dataset,
    read_facts,
    write_dataset,
)
from namm_mm.tasks.offline_rl.references import (
    DATASETS,
    REFERENCE_RETURNS,
    normalized_score,
    remote_dataset,
)


def two_episodes() -> Trajectories:
    """Three steps that end by themselves, then four that are cut."""
    generator = np.random.default_rng(1)
    terminals, timeouts = np.zeros((2, 7), dtype=np.bool_)
    terminals[2], timeouts[6] = True, True
    return Trajectories(
        observations=generator.standard_normal((7, 11)).astype(np.float32),
        actions=generator.standard_normal((7, 3)).astype(np.float32),
        rewards=np.arange(7, dtype=np.float32),
        terminals=terminals,
        timeouts=timeouts,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "hopper.hdf5"
    write_dataset(file, two_episodes(), {"origin": "generated locally; not D4RL"})
    return file


def test_what_is_written_is_read_back_with_its_label(path: Path) -> None:
    read, data = read_dataset(path, state_dim=11, action_dim=3), two_episodes()
    for key in KEYS:
        np.testing.assert_array_equal(getattr(read, key), getattr(data, key))
    assert read.bounds == ((0, 3), (3, 7))
    assert read.returns.tolist() == [3.0, 18.0]
    assert [len(episode) for episode in read.episodes()] == [3, 4]
    assert "not D4RL" in read_facts(path)["origin"]
    assert join([read, read]).bounds[2:] == ((7, 10), (10, 14))


def test_columns_of_one_are_read_as_vectors(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for key in ("rewards", "terminals", "timeouts"):
            column = file[key][()][:, None]
            del file[key]
            file[key] = column
    read = read_dataset(path)
    assert read.rewards.shape == (7,)
    assert read.bounds == ((0, 3), (3, 7))


def test_an_unfinished_last_episode_is_dropped(path: Path, tmp_path: Path) -> None:
    data = two_episodes()
    write_dataset(path, replace(data, timeouts=np.zeros(7, dtype=np.bool_)), {})
    assert len(read_dataset(path)) == 3
    with h5py.File(path, "r+") as file:
        del file["timeouts"]  # as in version 0
    assert len(read_dataset(path)) == 3


def _drop(file: h5py.File) -> None:
    del file["rewards"]


def _narrow(file: h5py.File) -> None:
    states = file["observations"][:, :4]
    del file["observations"]
    file["observations"] = states


def _shorten(file: h5py.File) -> None:
    actions = file["actions"][:5]
    del file["actions"]
    file["actions"] = actions


def _spoil(file: h5py.File) -> None:
    file["rewards"][2] = np.nan


def _never_end(file: h5py.File) -> None:
    file["terminals"][:] = False
    file["timeouts"][:] = False


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_drop, "'rewards' is missing"),
        (_narrow, r"'observations'.*\(7, 4\).*11"),
        (_shorten, r"'actions'.*\(5, 3\).*7 rows"),
        (_spoil, "'rewards'.*NaN"),
        (_never_end, "'terminals'.*no episode"),
    ],
)
def test_a_wrong_array_is_named_with_its_file(
    path: Path, damage: Callable[[h5py.File], None], words: str
) -> None:
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(RunError, match=f"hopper.hdf5.*{words}"):
        read_dataset(path, state_dim=11)


def test_a_truncated_or_absent_file_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(RunError, match=r"hopper\.hdf5.*truncated"):
        read_dataset(path)
    with pytest.raises(RunError, match=r"no such data set.*other\.hdf5"):
        read_dataset(path.with_name("other.hdf5"))


def test_a_download_is_kept_only_if_its_checksum_is_right(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = replace(
        remote_dataset("hopper-medium-v2"),
        url=path.as_uri(),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    monkeypatch.setattr(download, "remote_dataset", lambda name: remote)
    blocks: list[tuple[int, int]] = []
    found = download.fetch(
        "hopper-medium-v2", tmp_path / "a", on_block=lambda *block: blocks.append(block)
    )
    assert found.read_bytes() == path.read_bytes()
    assert blocks[-1][0] == path.stat().st_size
    path.write_bytes(b"something else")
    with pytest.raises(RunError, match="damaged or another file"):
        download.fetch("hopper-medium-v2", tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())
    found.write_bytes(b"changed on disk")
    with pytest.raises(RunError, match="damaged or another file"):
        download.fetch("hopper-medium-v2", tmp_path / "a")
    path.unlink()
    with pytest.raises(RunError, match=r"cannot download.*curl -LO"):
        download.fetch("hopper-medium-v2", tmp_path / "c")


def test_the_d4rl_package_is_optional_and_its_absence_clear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "d4rl", None)
    with pytest.raises(RunError, match=r"d4rl package does not work.*fetch needs none"):
        download.from_d4rl_package("hopper-medium-v2")


def test_the_constants_of_d4rl() -> None:
    for body, (low, high) in REFERENCE_RETURNS.items():
        assert normalized_score(body, low) == 0.0
        assert normalized_score(body, high) == 100.0
    assert normalized_score("Hopper", 1422.06) == pytest.approx(44.32, abs=0.01)
    remote = remote_dataset("walker2d-medium-replay-v2")
    assert remote.url.endswith("/gym_mujoco_v2/walker2d_medium_replay-v2.hdf5")
    assert len(DATASETS) == len({remote_dataset(name).sha256 for name in DATASETS}) == 12
    with pytest.raises(UsageError, match="Did you mean 'hopper-medium-v2'"):
        remote_dataset("hoper-medium-v2")
