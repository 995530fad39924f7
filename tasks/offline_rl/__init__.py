"""Continuous control with offline-trained agents: Hopper, HalfCheetah and Walker2d."""

from namm_mm.tasks.offline_rl.data import Trajectories, read_dataset, write_dataset
from namm_mm.tasks.offline_rl.download import fetch, from_d4rl_package
from namm_mm.tasks.offline_rl.references import normalized_score
from namm_mm.tasks.offline_rl.task import OfflineRlTask

__all__ = [
    "OfflineRlTask",
    "Trajectories",
    "fetch",
    "from_d4rl_package",
    "normalized_score",
    "read_dataset",
    "write_dataset",
]
