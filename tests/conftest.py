"""What every test gets: one thread, fixed seeds, no network, and warnings as errors (pyproject)."""

from __future__ import annotations

import gc
import os

# Before torch, transformers and wandb are imported anywhere: they read these once.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["COLUMNS"] = "100"  # what rich wraps at, so that printed text is the same everywhere
os.environ.pop("NAMM_MM_DEBUG", None)
if not os.path.exists("/dev/nvidia0"):  # without a GPU kernels run in Triton's interpreter
    os.environ["TRITON_INTERPRET"] = "1"

import random
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

SLOW = 10.0  # seconds; what takes longer carries the marker `slow`


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (the global state is what must not leak between tests)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of tiny models and files: see :func:`tiny_models.save_all`."""
    import tiny_models

    folder = tmp_path_factory.mktemp("tiny")
    tiny_models.save_all(folder)
    return folder


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: it would look at a million objects again."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say why."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that take over ten seconds and are not marked so."""
    seconds: dict[str, float] = {}
    for report in terminalreporter.getreports("passed"):
        if "slow" not in report.keywords:
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
    late = {name: taken for name, taken in seconds.items() if taken > SLOW}
    for name, taken in sorted(late.items(), key=lambda item: -item[1]):
        terminalreporter.write_line(f"{taken:.0f} s, and not marked slow: {name}")
