"""Compile every kernel ahead of time, without a GPU; print registers, spills and shared memory.

python research/benchmarks/gpu_compile.py --targets 80 90 --heads 64 128 256
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from namm_mm.kernels.triton import attention, folding

POINTERS = {"q": "*bf16", "k": "*bf16", "v": "*bf16", "out": "*bf16", "positions": "*i32"}
POINTERS |= {"starts": "*i64", "lengths": "*i64"}
NUMBERS = {"scale": "fp32", "softcap": "fp32", "decay": "fp32", "log_decay": "fp32"}
WHOLE = {"count", "complete", "slots", "window", "heads_rows", "rows", "queries", "part_slots"}
PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


@dataclass(frozen=True)
class Compiled:
    """A kernel for one target."""

    name: str
    target: int
    head: int
    registers: int
    spilled: int
    shared: int


def sources(head: int) -> Iterator[tuple[str, Any, dict[str, Any], tuple[int, int]]]:
    """Yield name, kernel, constants, and warps and stages, as launched for heads of this size."""
    block = 32 if head > 128 else 64
    shared: dict[str, Any] = {"D": head, "DP": head, "BN": block, "SOFTCAP": False}
    for window in (False, True):
        name = " in a window" if window else ""
        own = {**shared, "WINDOW": window}
        for rows, out in ((64, True), (64, False), (16, True)):
            more: dict[str, Any] = {"DV": head, "DVP": head, "BM": rows, "OUT": out}
            word = f"attention of {rows}{'' if out else ', log-sum-exp alone'}{name}"
            yield (
                word,
                attention.attention_kernel,
                {**own, **more},
                (8 if out and head > 64 else 4, 2),
            )
        more = {"G": 4, "HOP": 16, "BINS": 17, "RELATIVE": False, "PRECISION": "tf32x3"}
        yield f"spectrogram{name}", folding.spectrum_kernel, {**own, **more}, (4, 1)
        for how, word in enumerate(("sums", "maxima", "decayed sums")):
            more = {"G": 4, "BQ": folding.QUERIES, "HOW": how}
            yield f"{word}{name}", folding.columns_kernel, {**own, **more}, (4, 1)


def compiled(
    name: str, kernel: Any, constants: dict[str, Any], how: tuple[int, int], target: int
) -> Compiled:
    """Compile one kernel.

    Raises
    ------
    triton.CompilationError
        It does not compile.
    """
    signature = {}
    for argument in kernel.arg_names:
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in WHOLE:
            signature[argument] = "i32"
        else:
            signature[argument] = NUMBERS.get(argument) or POINTERS.get(argument, "*fp32")
    places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
    made = triton.compile(
        ASTSource(kernel, signature, places),
        target=GPUTarget("cuda", target, 32),
        options={"num_warps": how[0], "num_stages": how[1]},
    )
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder) / "kernel.ptx"
        ptx.write_text(made.asm["ptx"], encoding="utf-8")
        arch = f"sm_{target}{'a' if target >= 90 else ''}"
        said = subprocess.run(
            [PTXAS, "-v", f"-arch={arch}", ptx, "-o", Path(folder) / "kernel.cubin"],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    spilled = re.search(r"(\d+) bytes spill stores", said)
    registers = re.search(r"Used (\d+) registers", said)
    if spilled is None or registers is None:
        raise RuntimeError(f"ptxas said {said!r}")
    return Compiled(
        name, target, constants["D"], int(registers[1]), int(spilled[1]), made.metadata.shared
    )


def main() -> None:
    """Compile and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, nargs="+", default=[80, 90])
    parser.add_argument("--heads", type=int, nargs="+", default=[64, 128, 256])
    options = parser.parse_args()
    print("| kernel | target | head size | registers | bytes spilled | bytes shared |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for target in options.targets:
        for head in options.heads:
            for source in sources(head):
                one = compiled(*source, target)
                print(
                    f"| {one.name} | sm_{one.target} | {one.head} | {one.registers} "
                    f"| {one.spilled} | {one.shared} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
