"""Where a number comes from: commit, library versions, device. No machine paths."""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from namm_mm.records import Provenance

LIBRARIES = (
    "namm-mm",
    "torch",
    "transformers",
    "numpy",
    "safetensors",
    "gymnasium",
    "mujoco",
    "decord2",
    "av",
    "wandb",
)


def collect(config_hash: str, device: str, *, run: str = "") -> Provenance:
    """Describe this process.

    Parameters
    ----------
    config_hash
        Hash of the resolved settings.
    device
        ``cpu`` or ``cuda[:n]``; the record names the processor behind it.
    run
        Name of the run; by default the time of start and the beginning of the hash.
    """
    started = datetime.now(UTC)
    return Provenance(
        run=run or f"{started:%Y%m%d-%H%M%S}-{config_hash[:6]}",
        config_hash=config_hash,
        commit=commit(),
        versions=versions(),
        device=device_name(device),
        started=started.isoformat(timespec="seconds"),
        processor=processor(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a number may depend on, where installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Commit of this package's source, ``+dirty`` if edited since; empty where there is none.

    A checkout answers through git, and only if git tracks these very files: an environment inside
    somebody else's repository must not lend its commit. An installation from a git address kept its
    commit in its metadata (PEP 610).
    """
    folder = Path(__file__).resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", "provenance.py"):
        edited = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return (_git(folder, "rev-parse", "HEAD") or "") + ("+dirty" if edited else "")
    try:
        origin = json.loads(distribution("namm-mm").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return ""
    return str(origin.get("vcs_info", {}).get("commit_id", ""))


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def device_name(device: str) -> str:
    """Name the processor behind a torch device: ``cuda:0`` gives ``cuda:0 (NVIDIA H100)``."""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.is_available():
            return f"{device} ({torch.cuda.get_device_name(device)})"
        return device
    return f"{device} ({processor()})" if processor() else device


def processor() -> str:
    """Return the name of the machine's processor, as its maker writes it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
