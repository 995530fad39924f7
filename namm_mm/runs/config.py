"""``config.yaml`` of a run folder: the settings, from which the run can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from namm_mm.runs.disk import write_whole

CONFIG = "config.yaml"


def write_config(folder: Path, config: Mapping[str, Any], config_hash: str) -> None:
    """Write ``config.yaml`` with the hash of the settings in its first line.

    Raises
    ------
    OSError
        It cannot be written.
    """
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    write_whole(folder / CONFIG, f"# config hash {config_hash}\n{text}")
