"""Constants of D4RL: reference returns, target returns, and where its files are.

Sources: D4RL (Fu et al., 2020), ``d4rl/infos.py``, code Apache-2.0 and data CC BY 4.0; checksums as
published in the TensorFlow Datasets catalogue; target returns of the Decision Transformer (Chen et
al., 2021, arXiv:2106.01345), section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from namm_mm.errors import UsageError, message

REFERENCE_RETURNS = {
    "Hopper": (-20.272305, 3234.3),
    "HalfCheetah": (-280.178953, 12135.0),
    "Walker2d": (1.629008, 4592.3),
}
"""Body to the returns of D4RL's random and expert policies, for every quality and version."""

ORDERS_RETURNS = {
    "Hopper": (18.4, 737.1),
    "HalfCheetah": (-40.3, 395.3),
    "Walker2d": (1.7, 795.4),
}
"""Returns with orders of a random policy, and of the PPO policy that is always reminded.

Means over environment seeds 1 to 100 and 1 to 32 for Hopper and Walker2d, whose policies are the
bundled experts as ``Reminded`` of :mod:`research.builders.control.behaviour`, without noise.
"""

ORDERS_TARGETS = {"Hopper": 740.0, "HalfCheetah": 400.0, "Walker2d": 850.0}
"""Target returns with orders."""

PUBLISHED_TARGETS = {"Hopper": 3600.0, "HalfCheetah": 12000.0, "Walker2d": 5000.0}
"""The higher target return that the Decision Transformer is asked for on each body."""

_ROOT = "http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2"

_SHA256 = {
    "hopper-medium": "5bdf1bc4a713c82941de44633df669b36c89850b652a25985166796d25cf71a0",
    "hopper-medium-replay": "e121c5f7c9857a307baa9edc6a2c3b48e85fedb9ac316ecddd0f48ca7ef4e39b",
    "hopper-medium-expert": "9d51ad87f8c905be3880d84c6140bcdb7fbf39a19e046a237f238ba34fec9e26",
    "hopper-expert": "01aa219a5f8eea5e639eccdc636ec2bf40e317159a95cf4bf6e985f16909941b",
    "halfcheetah-medium": "41324e8487a9556d8cfa4538827f8937f4d63dae3030825ebc9f3a726ed08ca0",
    "halfcheetah-medium-replay": "48d494a4770c11f48260736dec090b78bdca8375647ed4d24bfa5b6610c7f683",
    "halfcheetah-medium-expert": "015db75dae5bbe8e94029b71fa0bafc2073365df0c94744e71031189f3f79c06",
    "halfcheetah-expert": "d9fe53bb994eb1e20a99b4fa3412cd76a1bb7966a7ff55e0fcbdd6081bd2965f",
    "walker2d-medium": "cf00f43add04c17fdfc2958dd581dea0851b2e5bedbe6fda073758a8f841aeda",
    "walker2d-medium-replay": "e75de96a4f77acf7d4e0d6fdf0d7ccb177c26c44bb4388e4fd99f543ccfa18db",
    "walker2d-medium-expert": "6b8d7f868c45bbaedf460be797fb7271b46dee6ebe45fe7a64319f2005b59a04",
    "walker2d-expert": "2985dc3d436a8baa10e8f43f946fe1d7c6337a4e4fbc65def70618093b18c59a",
}

DATASETS = tuple(f"{name}-v2" for name in _SHA256)


@dataclass(frozen=True)
class RemoteDataset:
    """One file of D4RL.

    Attributes
    ----------
    name
        Name of D4RL, such as ``hopper-medium-v2``.
    url, sha256
        Address and published hash.
    body
        ``Hopper``, ``HalfCheetah`` or ``Walker2d``.
    """

    name: str
    url: str
    sha256: str
    body: str


def remote_dataset(name: str) -> RemoteDataset:
    """Return the file of a D4RL data set; raise `UsageError` with the nearest name if unknown."""
    if name not in DATASETS:
        raise UsageError(
            message("unknown D4RL data set", given=name, expected="a v2 data set", valid=DATASETS)
        )
    stem = name.removesuffix("-v2")
    bodies = {body.lower(): body for body in REFERENCE_RETURNS}
    return RemoteDataset(
        name=name,
        url=f"{_ROOT}/{stem.replace('-', '_')}-v2.hdf5",
        sha256=_SHA256[stem],
        body=bodies[stem.partition("-")[0]],
    )


def normalized_score(body: str, episode_return: float) -> float:
    """Return D4RL's score: 0 is its random policy, 100 its expert (Fu et al., 2020, section 4)."""
    low, high = REFERENCE_RETURNS[body]
    return 100.0 * (episode_return - low) / (high - low)
