"""Read and write trajectories in the HDF5 layout of D4RL.

The layout (Fu et al., 2020, arXiv:2004.07219) is flat and time-major: ``observations`` (N, S),
``actions`` (N, A), ``rewards``, ``terminals`` and ``timeouts`` (N,) or, in old files, (N, 1). An
episode ends where a terminal or a timeout is set, or, in files of version 0 without timeouts, at
the environment's time limit. D4RL cuts its files at a round N; a last, unfinished episode is
dropped here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from namm_mm.errors import RunError, message
from namm_mm.tasks.offline_rl import hdf5

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

TIME_LIMIT = 1000
"""Steps after which Gymnasium ends an episode of Hopper, HalfCheetah and Walker2d."""
KEYS = ("observations", "actions", "rewards", "terminals", "timeouts")


@dataclass(frozen=True)
class Trajectories:
    """Whole episodes, one after the other.

    Attributes
    ----------
    observations, actions
        (transition, state) and (transition, action) float32.
    rewards
        (transition,) float32.
    terminals, timeouts
        (transition,) bool: the episode ended by itself, or was cut.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rewards)

    @cached_property
    def bounds(self) -> tuple[tuple[int, int], ...]:
        """First transition of each episode, and one past its last."""
        ends = np.flatnonzero(self.terminals | self.timeouts) + 1
        starts = [0, *ends[:-1].tolist()]
        return tuple(zip(starts, ends.tolist(), strict=True))

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """(episode,) sum of the rewards of each episode."""
        return np.asarray([self.rewards[a:b].sum(dtype=np.float64) for a, b in self.bounds])

    def episodes(self) -> Iterator[Trajectories]:
        """Yield each episode by itself."""
        for start, end in self.bounds:
            yield Trajectories(*(getattr(self, key)[start:end] for key in KEYS))


def join(parts: list[Trajectories]) -> Trajectories:
    """Return several sets of whole episodes as one."""
    return Trajectories(*(np.concatenate([getattr(p, key) for p in parts]) for key in KEYS))


def write_dataset(path: Path, data: Trajectories, facts: Mapping[str, Any]) -> None:
    """Write `data` with the five core keys, compressed, and `facts` as attributes of the file.

    The file appears under its name only when it is complete.
    """
    import h5py

    partial = path.with_name(path.name + ".tmp")
    with h5py.File(partial, "w") as file:
        for key in KEYS:
            values = getattr(data, key)
            file.create_dataset(
                key, data=values, compression="gzip", compression_opts=9, shuffle=True
            )
        for name, value in facts.items():
            file.attrs[name] = value
    partial.replace(path)


def read_dataset(
    path: Path,
    *,
    state_dim: int | None = None,
    action_dim: int | None = None,
    time_limit: int = TIME_LIMIT,
) -> Trajectories:
    """Return the trajectories of a file in D4RL's layout.

    Parameters
    ----------
    state_dim, action_dim
        Dimensions that the data must have; None takes any.
    time_limit
        Steps after which the environment ends an episode. It cuts files of version 0, which have
        no ``timeouts``, as D4RL's own reader does.

    Raises
    ------
    RunError
        The file is absent, in use, damaged or truncated, or an array is missing or of a wrong shape
        or type; the message names the file and the key. Also if no episode is complete.
    """
    with hdf5.opened(path) as file:
        observations = _matrix(file, path, "observations", state_dim)
        actions = _matrix(file, path, "actions", action_dim)
        count = len(observations)
        rewards = _vector(file, path, "rewards", count)
        terminals = _flags(file, path, "terminals", count)
        if "timeouts" in file:
            timeouts = _flags(file, path, "timeouts", count)
        else:
            timeouts = cut(terminals, time_limit)
    if len(actions) != count:
        raise _wrong(path, "actions", actions.shape, f"{count} rows, as in 'observations'")
    ends = np.flatnonzero(terminals | timeouts)
    if not len(ends):
        raise _wrong(path, "terminals", "no episode that ends", "at least one terminal or timeout")
    whole = slice(0, int(ends[-1]) + 1)
    return Trajectories(
        observations=_numbers(path, "observations", observations[whole]),
        actions=_numbers(path, "actions", actions[whole]),
        rewards=_numbers(path, "rewards", rewards[whole]),
        terminals=terminals[whole],
        timeouts=timeouts[whole],
    )


def cut(terminals: NDArray[np.bool_], time_limit: int) -> NDArray[np.bool_]:
    """Return where the environment's time limit ends episodes that do not end by themselves.

    Parameters
    ----------
    terminals
        (transition,) where episodes end by themselves.
    time_limit
        Steps of the longest episode.
    """
    timeouts = np.zeros_like(terminals)
    start = 0
    for end in (*(np.flatnonzero(terminals) + 1).tolist(), len(terminals)):
        timeouts[start + time_limit - 1 : end : time_limit] = True
        start = end
    return timeouts & ~terminals


def read_facts(path: Path) -> dict[str, Any]:
    """Return the attributes of a file that :func:`write_dataset` wrote."""
    with hdf5.opened(path) as file:
        return dict(file.attrs)


def _wrong(path: Path, key: str, given: object, expected: str) -> RunError:
    return RunError(message(f"{path}: wrong data in key {key!r}", given=given, expected=expected))


def _read(file: h5py.File, path: Path, key: str) -> NDArray[Any]:
    import h5py

    if not isinstance(file.get(key), h5py.Dataset):
        raise RunError(
            message(
                f"{path}: key {key!r} is missing",
                given=sorted(file),
                expected=f"D4RL's arrays {', '.join(KEYS)}",
            )
        )
    return hdf5.read(file[key], f"{path}: key {key!r}")


def _numbers(path: Path, key: str, values: NDArray[Any]) -> NDArray[np.float32]:
    return hdf5.as_float32(values, f"{path}: key {key!r}")


def _matrix(file: h5py.File, path: Path, key: str, columns: int | None) -> NDArray[Any]:
    values = _read(file, path, key)
    if values.ndim != 2 or (columns is not None and values.shape[1] != columns):
        wanted = "N" if columns is None else columns
        raise _wrong(path, key, values.shape, f"two dimensions, (transitions, {wanted})")
    return values


def _vector(file: h5py.File, path: Path, key: str, count: int) -> NDArray[Any]:
    values = _read(file, path, key)
    if values.shape not in ((count,), (count, 1)):
        raise _wrong(path, key, values.shape, f"({count},) or ({count}, 1), as in 'observations'")
    return values.reshape(count)


def _flags(file: h5py.File, path: Path, key: str, count: int) -> NDArray[np.bool_]:
    return _numbers(path, key, _vector(file, path, key, count)).astype(np.bool_)
