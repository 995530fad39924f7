"""Where W&B puts its files: below the run folder, and what is temporary below a folder of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from namm_mm.execution import temporary

FOLDERS = {
    "WANDB_DIR": ".",
    "WANDB_DATA_DIR": "wandb/data",
    "WANDB_CACHE_DIR": "wandb/cache",
    "WANDB_CONFIG_DIR": "wandb/config",
}


@contextmanager
def wandb_environment(folder: Path) -> Iterator[None]:
    """Set W&B's variables for the run in `folder` while the block runs.

    Raises
    ------
    OSError
        A folder cannot be made.
    """
    before = {name: os.environ.get(name) for name in FOLDERS}
    for name, below in FOLDERS.items():
        path = (folder / below).resolve()
        path.mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(path)
    try:
        with temporary.used():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
