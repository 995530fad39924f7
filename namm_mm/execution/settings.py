"""Which engine runs the units of a run, and how many workers it has."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from namm_mm.errors import message
from namm_mm.registry.reader import Reader

SERIAL, RAY = "serial", "ray"
ENGINES = (SERIAL, RAY)


@dataclass(frozen=True)
class ExecutionSettings:
    """How units are run. Results do not depend on it.

    Attributes
    ----------
    name
        ``serial``, in this process; ``ray``, in workers that keep their model.
    workers
        Processes; None takes one for each GPU where workers want one, else one for each CPU.
    gpus_per_worker
        GPUs that a worker sees; a part of one lets workers share it, 0 hides them all.
    threads
        Of torch, in each worker; also the CPUs that it takes.
    retries
        How often a unit may lose its worker and be given to another one.
    address
        Of a running Ray cluster (``auto``, ``ray://HOST:PORT``); None starts one on this machine,
        for this run alone.
    """

    name: str = SERIAL
    workers: int | None = None
    gpus_per_worker: float = 0.0
    threads: int = 1
    retries: int = 3
    address: str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """Plain values that :func:`read` reads back."""
        return {"name": self.name} if self.name == SERIAL else asdict(self)

    @property
    def worker_count(self) -> int:
        """Workers to start: `workers`, or as many as this machine has room for."""
        if self.workers is not None:
            return self.workers
        room = cpus() // self.threads
        if self.gpus_per_worker:
            room = min(room, int(gpus() / self.gpus_per_worker))
        return max(1, room)


KEYS = tuple(ExecutionSettings.__dataclass_fields__)


def read(parent: Reader) -> ExecutionSettings:
    """Read the key `execution`: a bare name, or a mapping; problems go to the reader's."""
    value = parent.data.get("execution") or SERIAL
    data = {"name": value} if isinstance(value, str) else value
    reader = Reader(data, "execution.", parent.problems)
    name = reader.one_of("name", ENGINES, SERIAL)
    reader.allow(KEYS)
    for key in sorted(set(KEYS) & set(reader.data) - {"name"}):
        if name == SERIAL:
            reader.problem(key, reader.data[key], "execution=ray beside it: serial has no workers")
    default = ExecutionSettings()
    address = reader.data.get("address")
    retries = reader.integer("retries", default.retries, minimum=0)
    return ExecutionSettings(
        name=name,
        workers=reader.integer("workers", None, minimum=1),
        gpus_per_worker=reader.number("gpus_per_worker", 0.0, minimum=0.0),
        threads=reader.integer("threads", default.threads, minimum=1) or 1,
        retries=default.retries if retries is None else retries,
        address=reader.text("address", "auto") if address is not None else None,
    )


def problems(settings: ExecutionSettings) -> Iterator[str]:
    """Yield what is known to be wrong before anything starts."""
    if settings.name == SERIAL:
        return
    if importlib.util.find_spec("ray") is None:
        yield message(
            "execution",
            given=settings.name,
            expected="an engine that is installed, and Ray is not",
            then="Install it with `pip install 'namm-mm[ray]'`, or take execution=serial.",
        )
    if settings.address is not None:
        return  # of the cluster's size only the cluster knows
    wanted = settings.worker_count * settings.threads
    if wanted > cpus():
        yield message(
            "execution.workers",
            given=settings.worker_count,
            expected=f"at most {cpus() // settings.threads} workers with {settings.threads} "
            f"thread(s) each on the {cpus()} CPUs of this machine",
            then="Take fewer, or name a running cluster with execution.address=auto.",
        )
    if settings.worker_count * settings.gpus_per_worker > gpus():
        yield message(
            "execution.gpus_per_worker",
            given=settings.gpus_per_worker,
            expected=f"at most {gpus()} GPUs in all for {settings.worker_count} worker(s)",
            then="`namm-mm doctor` says what torch sees.",
        )


def cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def gpus() -> int:
    """CUDA devices that torch sees."""
    import torch

    return torch.cuda.device_count()
