"""What a machine does to a run: a full disk, a lost worker, a killed service, no network."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from namm_mm.runs import read_records, read_state

from .base import Attempt, Setting
from .kills import CONFIGS
from .processes import lines, started, trouble, wait_for

COMMAND = (
    *("evaluate", "adapter.model=text", "adapter.dtype=float32", "policy=l2", "budget=tokens:32"),
    *("task.words=100", "limit=8", "interval=16"),
)
BROKEN = "cut.mp4"
"""A clip that is cut off on purpose."""

ADDRESS = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
SECONDS = 15.0
"""That an unreachable W&B may hold a run up."""


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield each fault `count` times."""
    for number in range(setting.count):
        for name, fault in FAULTS.items():
            folder = setting.folder / f"{name.replace(' ', '-')}-{number}"
            yield Attempt(f"{name}, {number}", fault(setting, folder, number))


def full_disk(setting: Setting, folder: Path, number: int) -> str:
    """The records stop fitting: the run says so, and how many are whole."""
    size = setting.draw(number).randrange(3000, 12000)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    with started((*COMMAND, f"folder={folder}", "wandb=disabled"), setting.tiny, limit) as process:
        said = process.communicate(timeout=300)[1]
    kept, problems = read_records(folder)
    if wrong := trouble(process.returncode, said):
        return wrong
    if process.returncode == 0 or problems:
        return f"exit code {process.returncode}, {len(problems)} broken lines"
    return "" if f"{len(kept)} whole records" in said else f"not told of {len(kept)}: {said[-200:]}"


def lost_worker(setting: Setting, folder: Path, number: int) -> str:
    """A worker of Ray is killed: another one takes over, and all records are there."""
    command = ("transfer", "--configs", CONFIGS, "experiment=tiny", "execution=ray",
               "execution.workers=1", f"folder={folder}", "wandb=disabled")  # fmt: skip
    with started(command, setting.tiny) as process:
        if wait_for(process, folder / "records.jsonl", 2 + number):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "Worker" in " ".join(child.cmdline()):
                        child.kill()
        said = process.communicate(timeout=600)[1]
    if wrong := trouble(process.returncode, said):
        return wrong
    if process.returncode:
        return said.strip()[-200:]
    records, _ = read_records(folder)
    errors = [
        r for r in records if r.error and "cut.mp4" not in r.error
    ]  # it is cut off on purpose
    return f"{len(errors)} failed records: {errors[0].error}" if errors else ""


def killed_service(setting: Setting, folder: Path, number: int) -> str:
    """W&B's service is killed: one line says so, and the run goes on."""
    command = (*COMMAND, f"folder={folder}", "wandb=offline")
    with started(command, setting.tiny) as process:
        if wait_for(process, folder / "records.jsonl", 1 + number):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()
        said = process.communicate(timeout=300)[1]
    if wrong := trouble(process.returncode, said):
        return wrong
    found = lines(folder / "records.jsonl")
    if process.returncode or found != 8 or read_state(folder).status != "ok":
        return f"exit code {process.returncode}, {found} records: {said[-200:]}"
    return ""


def no_network(setting: Setting, folder: Path, number: int) -> str:
    """W&B is to be online and cannot be reached: the run is recorded offline, soon."""
    seconds = {}
    for mode in ("offline", "online"):
        start = time.monotonic()
        command = (*COMMAND, f"folder={folder}-{mode}", f"wandb={mode}")
        with started(command, setting.tiny, more={"WANDB_MODE": mode, **ADDRESS}) as process:
            said = process.communicate(timeout=300)[1]
        if process.returncode or "Traceback" in said:
            return f"{mode}: exit code {process.returncode}: {said[-200:]}"
        seconds[mode] = time.monotonic() - start
    more = seconds["online"] - seconds["offline"]
    return f"{more:.0f} seconds more than offline" if more > SECONDS else ""


FAULTS: dict[str, Callable[[Setting, Path, int], str]] = {
    "full disk": full_disk,
    "lost worker": lost_worker,
    "killed service": killed_service,
    "no network": no_network,
}
