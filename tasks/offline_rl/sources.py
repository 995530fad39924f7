"""Trajectories by name: D4RL, the parquet data of the published models, Minari, or a file.

==============================  ================================================================
``d4rl/hopper-medium-v2``       D4RL's own HDF5, downloaded and checked if it is not there
``d4rl-package/NAME``           the same through the ``d4rl`` package, where that works
``gym_replay/hopper-medium-v2`` one configuration of the hub's
                                ``edbeeching/decision_transformer_gym_replay``, in parquet
``minari/mujoco/hopper/...``    a local Minari data set, by its id
``FILE.hdf5``, ``FILE.parquet`` one of these layouts
==============================  ================================================================

Only the first three are what Decision Transformers were published on. Minari's are of other agents
in ``-v5`` environments, and much stronger than D4RL's of the same name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks import hub, parquet
from namm_mm.tasks.offline_rl import hdf5
from namm_mm.tasks.offline_rl.data import KEYS, Trajectories, join, read_dataset
from namm_mm.tasks.offline_rl.download import fetch, from_d4rl_package

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import h5py
    from numpy.typing import NDArray

GYM_REPLAY = "edbeeching/decision_transformer_gym_replay"
_PARQUET_REVISION = "refs/convert/parquet"  # the hub's own conversion; the original is pickles
SOURCES = ("d4rl/NAME", "d4rl-package/NAME", "gym_replay/NAME", "minari/ID", "a file")


def read_trajectories(
    source: str,
    *,
    state_dim: int | None = None,
    action_dim: int | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> Trajectories:
    """Return whole episodes from `source`.

    Parameters
    ----------
    source
        One of the forms above.
    state_dim, action_dim
        What the data must have; None takes what is there.
    on_block
        Told the bytes of a download so far and in all.

    Raises
    ------
    UsageError
        `source` has none of the forms, or names an unknown data set.
    RunError
        It cannot be fetched or read; the message names the file and what is wrong in it.
    """
    kind, _, name = source.partition("/")
    if kind == "d4rl" and name:
        path = fetch(name, on_block=on_block)
        return read_dataset(path, state_dim=state_dim, action_dim=action_dim)
    if kind == "d4rl-package" and name:
        return _checked(from_d4rl_package(name), source, state_dim, action_dim)
    if kind == "gym_replay" and name:
        return _checked(read_parquet(_gym_replay(name)), source, state_dim, action_dim)
    if kind == "minari" and name:
        return _checked(read_minari(_minari_file(name)), source, state_dim, action_dim)
    path = Path(source).expanduser()
    if path.suffix == ".parquet":
        return _checked(read_parquet(path), source, state_dim, action_dim)
    if path.suffix in (".hdf5", ".h5") and not is_minari(path):
        return read_dataset(path, state_dim=state_dim, action_dim=action_dim)
    if path.suffix in (".hdf5", ".h5"):
        return _checked(read_minari(path), source, state_dim, action_dim)
    raise UsageError(
        message(
            "unknown trajectories",
            given=source,
            expected=f"one of {', '.join(SOURCES)} (.hdf5, .h5 or .parquet)",
        )
    )


def read_parquet(path: Path) -> Trajectories:
    """Return the episodes of a parquet file, one a row.

    An episode whose last ``done`` is false was cut. Needs pyarrow (extra ``benchmarks``).

    Raises
    ------
    RunError
        The file is absent or damaged, or a column is missing or ragged.
    """
    if not path.is_file():
        raise RunError(message("no such data set", given=str(path), expected="a parquet file"))
    rows = parquet.read(path)
    if not rows:
        raise RunError(message(f"{path} is empty", given="0 rows", expected="an episode a row"))
    return join([_episode(f"{path}, row {number}", row) for number, row in enumerate(rows)])


def _episode(where: str, row: Mapping[str, object]) -> Trajectories:
    arrays: dict[str, NDArray[Any]] = {}
    if row.get("rewards") == []:
        raise _empty(where)
    for key, dimensions in (("observations", 2), ("actions", 2), ("rewards", 1), ("dones", 1)):
        if row.get(key) is None:
            raise RunError(
                message(
                    f"{where}: column {key!r} is missing",
                    given=sorted(row),
                    expected="columns observations, actions, rewards and dones",
                )
            )
        try:
            arrays[key] = np.asarray(row[key], dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise RunError(f"{where}: column {key!r} is ragged: {error}") from error
        if key == "rewards":
            arrays[key] = arrays[key].reshape(len(arrays[key]))
        if arrays[key].ndim != dimensions:
            raise _shape(where, key, arrays[key].shape, f"{dimensions} dimensions")
    steps = len(arrays["rewards"])
    _check_length(where, steps, dones=arrays["dones"])
    return _of_episode(
        where,
        observations=arrays["observations"][:steps],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminal=bool(arrays["dones"][-1]),
    )


def is_minari(path: Path) -> bool:
    """Whether an HDF5 file is laid out as Minari's: a group for each episode.

    Raises
    ------
    RunError
        It cannot be opened; the message says why.
    """
    with hdf5.opened(path) as file:
        return any(name.startswith("episode_") for name in file)


def read_minari(path: Path) -> Trajectories:
    """Return the episodes of ``main_data.hdf5`` of Minari, one a group ``episode_N``.

    The Minari package is not needed.

    Raises
    ------
    RunError
        The file is absent, in use or damaged, an episode is empty, or a key is missing, of a wrong
        shape, or no plain array.
    """
    with hdf5.opened(path) as file:
        numbers = [name.removeprefix("episode_") for name in file if name.startswith("episode_")]
        names = [f"episode_{number}" for number in sorted(filter(str.isdigit, numbers), key=int)]
        if not names:
            raise RunError(
                message(f"{path}: no episode", given=sorted(file), expected="episode_0, ...")
            )
        return join([_minari_episode(f"{path}, {name}", file[name]) for name in names])


def _minari_episode(where: str, group: h5py.Group) -> Trajectories:
    import h5py

    arrays: dict[str, NDArray[Any]] = {}
    if not isinstance(group, h5py.Group):
        raise RunError(message(f"{where}: wrong data", given="an array", expected="a group"))
    for key in ("observations", "actions", "rewards", "terminations", "truncations"):
        if not isinstance(group.get(key), h5py.Dataset):
            raise RunError(
                message(
                    f"{where}: key {key!r} is missing, or not one array",
                    given=sorted(group),
                    expected="arrays observations, actions, rewards, terminations, truncations",
                )
            )
        arrays[key] = hdf5.read(group[key], f"{where}, key {key!r}")
        if not arrays[key].ndim:
            raise _shape(where, key, "a single number", "an array")
    steps = len(arrays["rewards"])
    _check_length(where, steps, terminations=arrays["terminations"])
    if len(arrays["observations"]) != steps + 1:
        raise _shape(where, "observations", arrays["observations"].shape, f"{steps + 1} rows")
    return _of_episode(
        where,
        observations=arrays["observations"][:steps],
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminal=bool(arrays["terminations"][-1]),
    )


def _of_episode(
    where: str,
    *,
    observations: NDArray[Any],
    actions: NDArray[Any],
    rewards: NDArray[Any],
    terminal: bool,
) -> Trajectories:
    steps = len(rewards)
    for key, values in (("observations", observations), ("actions", actions)):
        if values.ndim != 2 or len(values) != steps:
            raise _shape(where, key, values.shape, f"({steps}, N), as many rows as rewards")
    ends = np.zeros(steps, dtype=np.bool_)
    ends[-1] = True
    none = np.zeros(steps, dtype=np.bool_)
    return Trajectories(
        observations=hdf5.as_float32(observations, f"{where}, key 'observations'"),
        actions=hdf5.as_float32(actions, f"{where}, key 'actions'"),
        rewards=hdf5.as_float32(rewards, f"{where}, key 'rewards'").reshape(steps),
        terminals=ends if terminal else none,
        timeouts=none if terminal else ends,
    )


def _check_length(where: str, steps: int, **flags: NDArray[Any]) -> None:
    """Raise unless an episode has steps, and as many flags of its end."""
    if not steps:
        raise _empty(where)
    for key, values in flags.items():
        if len(values) != steps:
            raise _shape(where, key, values.shape, f"({steps},), as many as rewards")


def _empty(where: str) -> RunError:
    return RunError(message(f"{where} is empty", given="0 steps", expected="1 or more"))


def _checked(
    data: Trajectories, source: str, state_dim: int | None, action_dim: int | None
) -> Trajectories:
    for key, expected in zip(KEYS, (state_dim, action_dim), strict=False):
        found = getattr(data, key).shape[1]
        if expected is not None and found != expected:
            raise _shape(source, key, f"{found} columns", f"{expected}")
    return data


def _shape(where: str, key: str, given: object, expected: str) -> RunError:
    return RunError(message(f"{where}: wrong data in key {key!r}", given=given, expected=expected))


def _gym_replay(name: str) -> Path:
    """Return the parquet file of one configuration, from the hub or its cache."""
    file = f"{name}/train/0000.parquet"
    command = hub.command(GYM_REPLAY, file, revision=_PARQUET_REVISION)
    return hub.fetch(
        GYM_REPLAY,
        file,
        revision=_PARQUET_REVISION,
        given=file,
        expected="a cached file, or a hub that answers and knows it",
        then=f"On another machine: `{command}`; or give the file itself.",
    )


def _minari_file(name: str) -> Path:
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    path = root / name / "data" / "main_data.hdf5"
    if not path.is_file():
        raise RunError(
            message(
                "no such Minari data set",
                given=name,
                expected=str(path),
                then=f"`pip install 'minari[hdf5,hf]'`, then `minari download {name}`; "
                "MINARI_DATASETS_PATH says where they are kept.",
            )
        )
    return path
