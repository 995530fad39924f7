"""Compiled passes over attention weights, for processors: found or not, never required.

``make kernels`` compiles ``compiled.cpp`` into a library beside it, with vectors of AVX-512, of
AVX2 and for any processor; the loader takes what the processor has. It is called with pointers, so
that one build serves every version of torch. Without it, or with ``NAMM_MM_KERNELS=torch``, the
memory runs in plain torch, which is the reference of every test.
"""

from __future__ import annotations

import ctypes
import math
import os
import shlex
import subprocess
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from namm_mm.errors import RunError

SOURCE = Path(__file__).with_suffix(".cpp")
LIBRARY = SOURCE.with_name("libcompiled.so")
VARIABLE = "NAMM_MM_KERNELS"
"""``torch`` in this variable of the environment turns kernels off."""
FLAGS = (
    "-std=c++17 -O3 -fPIC -shared -fno-math-errno -fno-trapping-math -fassociative-math "
    "-fno-signed-zeros -freciprocal-math -ffinite-math-only -pthread"
)
HOP, BINS, BYTES = 16, 17, 34
"""The only spectrogram that is compiled: that of the published NAMM."""

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


def build(target: Path = LIBRARY) -> Path:
    """Compile the library with ``$CXX``, else ``c++``; return its path.

    Raises
    ------
    RunError
        There is no compiler, or it fails; the message holds its last words.
    """
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    command = [*compiler, *FLAGS.split(), str(SOURCE), "-o", str(target)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RunError(
            f"no C++ compiler: got {compiler[0]!r}, expected g++ or clang++. Install one, or set "
            "CXX. Without it the memory runs in plain torch."
        ) from error
    except subprocess.CalledProcessError as error:
        raise RunError(f"{compiler[0]} failed: {error.stderr.strip()[-500:]}") from error
    return target


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    if os.environ.get(VARIABLE) == "torch" or not LIBRARY.is_file():
        return None
    if LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:  # it may have other calls
        return None
    return _load(LIBRARY)


def is_found() -> bool:
    """Whether the compiled passes are there and not switched off."""
    return _library() is not None


def _load(path: Path) -> ctypes.CDLL | None:
    """Return the library with the types of its calls; None where it is of another machine."""
    try:
        found = ctypes.CDLL(str(path))
    except OSError:
        return None
    found.namm_softmax.argtypes = [_POINTER, _POINTER, *[_NUMBER] * 5]
    found.namm_frames.argtypes = [
        *(_POINTER, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _NUMBER),
        *(_POINTER, _POINTER, _NUMBER, ctypes.c_float, _NUMBER),
    ]
    found.namm_read_means.argtypes = [
        *(_POINTER, _NUMBER, _NUMBER, _POINTER, _NUMBER, _POINTER, _NUMBER)
    ]
    found.namm_open_codes.argtypes = [
        *(_POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER, _NUMBER),
        *(_POINTER, _POINTER, _POINTER, _NUMBER),
    ]
    found.namm_close_codes.argtypes = [
        *(_POINTER, _POINTER, _POINTER, _NUMBER, _NUMBER, _POINTER, _POINTER),
        *(_POINTER, _NUMBER, _POINTER, _NUMBER),
    ]
    for call in ("softmax", "frames", "read_means", "open_codes", "close_codes"):
        getattr(found, f"namm_{call}").restype = None
    return found


def softmax_means(products: Tensor) -> Tensor | None:
    """Softmax of causal `products` in their place; return its mean over the query group.

    Parameters
    ----------
    products
        (row, kv_head, group, query, slot) float32, dense. The queries are those of the newest
        slots: query ``i`` of ``n`` sees all slots but the last ``n - 1 - i``.

    Returns
    -------
    Tensor or None
        (row, kv_head, query, slot) float32. None where nothing is compiled; `products` are then as
        they were.
    """
    library = _library()
    fits = products.dtype == torch.float32 and products.is_contiguous()
    if library is None or products.device.type != "cpu" or not fits:
        return None
    rows, heads, group, queries, slots = products.shape
    means = products.new_empty(rows, heads, queries, slots)
    sizes = (rows * heads, group, queries, slots, torch.get_num_threads())
    library.namm_softmax(products.data_ptr(), means.data_ptr(), *sizes)
    return means


def fold_frames(means: Tensor, last: Tensor, signal: Tensor, fresh: float) -> bool:
    """Fold whole hops of queries into the means of a spectrogram, in place.

    Parameters
    ----------
    means, last
        (sequence, 17, slot) and (sequence, 16, slot) float32: the state, of as many slots as
        `signal` or more, dense.
    signal
        (sequence, query, slot) float32.
    fresh
        Part of a new frame in the means.

    Returns
    -------
    bool
        False where nothing is compiled, or for another window; the state is then as it was.
    """
    library = _library()
    if library is None or signal.device.type != "cpu" or signal.dtype != torch.float32:
        return False
    sequences, queries, slots = signal.shape
    dense = means.is_contiguous() and last.is_contiguous() and signal.stride(2) == 1
    if means.shape[1] != BINS or last.shape[1] != HOP or not dense:
        return False
    library.namm_frames(
        *(signal.data_ptr(), signal.stride(0), signal.stride(1), sequences, queries, slots),
        *(means.data_ptr(), last.data_ptr(), means.shape[2], fresh, torch.get_num_threads()),
    )
    return True


def read_means(codes: Tensor, middles: Tensor, *, wide: bool) -> Tensor | None:
    """Means (..., slot, 17) float32 of codes (..., slot, 34); None where nothing is compiled."""
    library = _library()
    if library is None or not _is_served(codes, middles):
        return None
    codes = codes.contiguous()
    means = middles.new_empty(*codes.shape[:-1], BINS)
    library.namm_read_means(
        *(codes.data_ptr(), _heads(codes), codes.shape[-2], middles.data_ptr(), int(wide)),
        *(means.data_ptr(), torch.get_num_threads()),
    )
    return means


def open_codes(
    codes: Tensor, middles: Tensor, window: Tensor, *, wide: bool
) -> tuple[Tensor, Tensor, Tensor] | None:
    """What :class:`~namm_mm.namm.codes.StateCodes` reads in codes (..., slot, 34).

    Returns
    -------
    tuple of Tensor or None
        Means (..., 17, slot) and weights (..., 16, slot) float32, and turns (..., 1, slot) uint8.
        None where nothing is compiled.
    """
    library = _library()
    if library is None or not _is_served(codes, middles):
        return None
    codes = codes.contiguous()
    slots, above = codes.shape[-2], codes.shape[:-2]
    means, weights = (middles.new_empty(*above, count, slots) for count in (BINS, HOP))
    turns = codes.new_empty(*above, 1, slots)
    library.namm_open_codes(
        *(codes.data_ptr(), _heads(codes), slots, middles.data_ptr(), window.data_ptr()),
        *(int(wide), means.data_ptr(), weights.data_ptr(), turns.data_ptr()),
        torch.get_num_threads(),
    )
    return means, weights, turns


def close_codes(
    opened: tuple[Tensor, Tensor, Tensor],
    middles: Tensor,
    window: Tensor,
    added: Tensor,
    *,
    wide: bool,
) -> Tensor | None:
    """Codes (..., slot, 34) uint8 of what :func:`open_codes` gives; None as there.

    Parameters
    ----------
    added
        (16, 17) float32, dense: what is added to the code of each mean in each turn.
    """
    library = _library()
    means, weights, turns = (part.contiguous() for part in opened)
    if library is None or means.device.type != "cpu" or means.shape[-2] != BINS:
        return None
    slots = means.shape[-1]
    codes = turns.new_empty(*means.shape[:-2], slots, BYTES)
    library.namm_close_codes(
        *(means.data_ptr(), weights.data_ptr(), turns.data_ptr(), _heads(means), slots),
        *(middles.data_ptr(), window.data_ptr(), added.data_ptr(), int(wide), codes.data_ptr()),
        torch.get_num_threads(),
    )
    return codes


def _is_served(codes: Tensor, middles: Tensor) -> bool:
    return codes.device.type == "cpu" and codes.shape[-1] == BYTES and middles.numel() == BINS


def _heads(tensor: Tensor) -> int:
    """Product of all axes but the last two."""
    return math.prod(tensor.shape[:-2])
