"""Take a run folder: begin a run there, or go on with the very run that it holds."""

from __future__ import annotations

import json
from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.evolution.reading import differences
from namm_mm.evolution.stages import EvolutionSettings
from namm_mm.evolution.state import STATE
from namm_mm.execution.progress import Progress

CONFIG = "config.yaml"


def claim(folder: Path, settings: EvolutionSettings, *, anyway: bool, progress: Progress) -> None:
    """Write the settings into the folder, or compare them with those that are there.

    Raises
    ------
    UsageError
        A run with other settings is there and `anyway` is not set, or nothing can be written.
    """
    import yaml

    path = folder / CONFIG
    begun = (folder / STATE).is_file()
    if not begun:  # what an attempt that never ran left behind belongs to its own settings
        for left in (*folder.glob("start.*"), *folder.glob("space-*.safetensors")):
            left.unlink()
    plain = json.loads(json.dumps(settings.as_mapping()))
    if begun and path.is_file():
        old = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        deciding = json.loads(json.dumps(settings.deciding))
        changed = differences({key: old.get(key) for key in deciding}, deciding)
        if changed and not anyway:
            raise UsageError(
                "the run in this folder was started with other settings:\n"
                + "\n".join(f"- {line}" for line in changed)
                + f"\nGot {str(folder)!r}; expected the same settings, or another folder. "
                "`--anyway` goes on with the new ones."
            )
        for line in changed:
            progress.say(f"changed on the way: {line}")
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# config hash {settings.config_hash}\n{text}", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            message(
                "the output folder cannot be written",
                given=str(folder),
                expected=f"a folder that you may write to ({error.strerror})",
                then="Choose another one with `folder=FOLDER`.",
            )
        ) from error
