"""What a device can hold and do, for plans: the one at hand, or one that is named."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from namm_mm.adapters.common.loading import cpu_capabilities
from namm_mm.errors import UsageError, message

GIB = float(1 << 30)


@dataclass(frozen=True)
class Device:
    """One kind of accelerator, and how many of it.

    Attributes
    ----------
    name
        In words.
    memory
        Bytes that a program can use, of one device.
    flops
        Dense bfloat16 (or float16) operations per second, as the maker states them.
    bandwidth
        Bytes per second between its memory and its cores.
    count
        How many of them.
    is_gpu
        False for the processor, whose memory is the machine's.
    """

    name: str
    memory: float
    flops: float
    bandwidth: float
    count: int = 1
    is_gpu: bool = True

    @property
    def all_memory(self) -> float:
        """Bytes of all of them together."""
        return self.memory * self.count

    @property
    def title(self) -> str:
        """Name, number and size."""
        times = f"{self.count} x " if self.count > 1 else ""
        return f"{times}{self.name}, {self.memory / GIB:.0f} GiB"


def _gpu(name: str, gib: float, tera_flops: float, tera_bytes: float) -> Device:
    return Device(name, gib * GIB, tera_flops * 1e12, tera_bytes * 1e12)


DEVICES = {
    "h100": _gpu("H100", 79.1, 989, 3.35),
    "h200": _gpu("H200", 139.8, 989, 4.8),
    "a100": _gpu("A100 80 GB", 79.1, 312, 2.0),
    "a100-40": _gpu("A100 40 GB", 39.4, 312, 1.555),
    "l40s": _gpu("L40S", 44.4, 362, 0.864),
    "l4": _gpu("L4", 22.2, 121, 0.3),
    "a10g": _gpu("A10G", 22.1, 70, 0.6),
    "rtx4090": _gpu("RTX 4090", 23.6, 165, 1.008),
    "rtx3090": _gpu("RTX 3090", 23.6, 71, 0.936),
    "t4": _gpu("T4", 14.7, 65, 0.32),
}
"""Short names for ``--gpu``; figures of the makers' data sheets."""

_CPU_FLOPS = 4e10  # of one core with wide vectors, in a real matrix product
_CPU_TILE_FLOPS = 2.5e11  # with tiles of bfloat16: SmolLM2 under a NAMM reaches 110 GFLOP/s
_CPU_BANDWIDTH = 1e10


def named_device(words: str) -> Device:
    """Read ``h100`` or ``h100x4``.

    Raises
    ------
    UsageError
        The name is unknown; the message holds the nearest one.
    """
    name, count = words.strip().lower(), 1
    several = re.fullmatch(r"(.+)x([1-9]\d*)", name)
    if several and name not in DEVICES:
        name, count = several[1], int(several[2])
    if name not in DEVICES:
        raise UsageError(
            message(
                "unknown GPU",
                given=words,
                expected="a known one, or several of it, as in h100x4",
                valid=DEVICES,
            )
        )
    known = DEVICES[name]
    return Device(known.name, known.memory, known.flops, known.bandwidth, count)


def local_device() -> Device:
    """Return the CUDA devices that torch sees, as many of the first kind, else the processor."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        label = properties.name.lower().replace(" ", "")
        like = next((d for key, d in DEVICES.items() if key.partition("-")[0] in label), None)
        like = like or DEVICES["a10g"]  # speed is then a guess; memory is what the device says
        count = torch.cuda.device_count()
        return Device(
            properties.name, float(properties.total_memory), like.flops, like.bandwidth, count
        )
    cores = os.cpu_count() or 1
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    flops = _CPU_TILE_FLOPS if cpu_capabilities().get("amx_bf16") else _CPU_FLOPS
    return Device("the CPU", memory, flops * cores, _CPU_BANDWIDTH, is_gpu=False)
