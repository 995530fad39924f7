"""HDF5 files as they are met: cut at time limits, in use, damaged, packed, empty; each is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from namm_mm.errors import RunError
from namm_mm.tasks.offline_rl.data import cut, read_dataset, read_facts
from namm_mm.tasks.offline_rl.sources import read_trajectories


def version_0(path: Path, steps: int, terminals: tuple[int, ...] = ()) -> Path:
    """A file of D4RL's first version, without timeouts."""
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((steps, 11), np.float32)
        file["actions"] = np.zeros((steps, 3), np.float32)
        file["rewards"] = np.arange(steps, dtype=np.float32)
        ends = np.zeros(steps, dtype=np.bool_)
        ends[list(terminals)] = True
        file["terminals"] = ends
    return path


def minari(path: Path, steps: int) -> Path:
    with h5py.File(path, "w") as file:
        for number in range(2):
            length = steps if number else 3
            group = file.create_group(f"episode_{number}")
            group["observations"] = np.zeros((length + 1, 11))
            group["actions"] = np.zeros((length, 3))
            group["rewards"] = np.zeros(length)
            group["terminations"] = np.zeros(length, dtype=np.bool_)
            group["truncations"] = np.ones(length, dtype=np.bool_)
    return path


@pytest.mark.parametrize(
    ("steps", "terminals", "lengths"),
    [
        (3000, (2499,), [1000, 1000, 500]),
        (3000, (), [1000, 1000, 1000]),
        (3000, (999, 1999), [1000, 1000, 1000]),
        (2500, (1200,), [1000, 201, 1000]),
        (1000, (998,), [999]),
        (1001, (0,), [1, 1000]),
    ],
)
def test_files_without_timeouts_are_cut_at_the_time_limit(
    tmp_path: Path, steps: int, terminals: tuple[int, ...], lengths: list[int]
) -> None:
    data = read_dataset(version_0(tmp_path / "old.hdf5", steps, terminals))
    assert [end - start for start, end in data.bounds] == lengths
    assert not (data.terminals & data.timeouts).any()
    assert np.flatnonzero(data.terminals).tolist() == list(terminals)


def test_another_time_limit_cuts_there(tmp_path: Path) -> None:
    path = version_0(tmp_path / "old.hdf5", 10, (4,))
    assert read_dataset(path, time_limit=3).bounds == ((0, 3), (3, 5), (5, 8))
    assert np.flatnonzero(cut(np.zeros(7, dtype=np.bool_), 3)).tolist() == [2, 5]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _page(path: Path) -> None:
    path.write_bytes(b"<html>404 Not Found</html>" * 40)


def _nothing(path: Path) -> None:
    path.write_bytes(b"")


def _no_file(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_truncate, "it is truncated"),
        (_page, "it is no HDF5 file"),
        (_nothing, "it is no HDF5 file"),
        (_no_file, "no such data set"),
    ],
)
@pytest.mark.parametrize("layout", ["d4rl", "minari"])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(
    tmp_path: Path, layout: str, harm: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "data.hdf5"
    version_0(path, 2000) if layout == "d4rl" else minari(path, 200)
    harm(path)
    with pytest.raises(RunError, match=rf"data\.hdf5.*{words}|{words}.*data\.hdf5"):
        read_trajectories(str(path))


@pytest.mark.parametrize("layout", ["d4rl", "minari"])
def test_a_file_that_is_being_written_is_said_to_be_in_use(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "data.hdf5"
    version_0(path, 2000) if layout == "d4rl" else minari(path, 5)
    code = (
        "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        try:
            for read in (read_trajectories, lambda name: read_facts(Path(name))):
                with pytest.raises(RunError, match=r"data\.hdf5: it is in use"):
                    read(str(path))
        finally:
            writer.communicate(b"\n")
    assert len(read_trajectories(str(path))) > 0


def test_a_writer_that_was_killed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.hdf5"
    code = (
        "import h5py, os, sys; file = h5py.File(sys.argv[1], 'w', libver='latest'); "
        "file['observations'] = [[1.0]]; file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    with pytest.raises(RunError, match=r"was killed while it did.*h5clear"):
        read_trajectories(str(path))


def test_an_episode_of_no_steps_is_named(tmp_path: Path) -> None:
    path = minari(tmp_path / "data.hdf5", 0)
    with pytest.raises(RunError, match=r"data\.hdf5, episode_1 is empty"):
        read_trajectories(str(path))


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = version_0(tmp_path / "data.hdf5", 100)
    zstandard = 32015
    if h5py.h5z.filter_avail(zstandard):
        pytest.skip("this h5py has the filter")
    with h5py.File(path, "r+") as file:
        del file["rewards"]
        packed = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        packed.set_chunk((100,))
        packed.set_filter(zstandard, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((100,))
        made = h5py.h5d.create(file.id, b"rewards", h5py.h5t.NATIVE_FLOAT, space, packed)
        h5py.Dataset(made).id.write_direct_chunk((0,), bytes(400), 0)
    with pytest.raises(RunError, match=r"'rewards'.*not installed.*Zstandard.*h5repack"):
        read_trajectories(str(path))


def test_damage_inside_of_an_array_is_named(tmp_path: Path) -> None:
    path = version_0(tmp_path / "data.hdf5", 100)
    with h5py.File(path, "r+") as file:
        del file["rewards"]
        values = np.random.default_rng(0).normal(size=100)
        stored = file.create_dataset("rewards", data=values, compression="gzip")
        start, size = stored.id.get_chunk_info(0).byte_offset, stored.id.get_chunk_info(0).size
    data = bytearray(path.read_bytes())
    data[start + size // 2 : start + size] = bytes(size - size // 2)
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"data\.hdf5: key 'rewards' cannot be read, .* damaged"):
        read_trajectories(str(path))


@pytest.mark.parametrize("value", [1e300, -1e39, np.nan, np.inf])
@pytest.mark.parametrize("layout", ["d4rl", "minari"])
def test_numbers_must_be_finite_as_they_are_computed_with(
    tmp_path: Path, layout: str, value: float
) -> None:
    path = tmp_path / "data.hdf5"
    if layout == "d4rl":
        version_0(path, 1000)
        key = "rewards"
    else:
        minari(path, 5)
        key = "episode_1/rewards"
    with h5py.File(path, "r+") as file:
        rewards = file[key][()].astype(np.float64)
        del file[key]
        rewards[3] = value
        file[key] = rewards
    with pytest.raises(RunError, match=r"'rewards'.*expected finite numbers"):
        read_trajectories(str(path))
