"""Recordings of the official NAMM modules: an ``.npz`` file with one array per step.

The names, for any number of updates ``u``, chunks ``c`` and layers ``l``, and any prefix ``p``::

    p.u{u}.c{c}.l{l}.attn      (1, query_head, query, slot) softmax rows; slots: kept ones, then new
    p.u{u}.c{c}.l{l}.new_key   (1, kv_head, query, head_dim)
    p.u{u}.l{l}.*              frames (1, kv_head, frame, slot, bins), ema, embedding, score,
                               retained_idx, kept_position_ids, kept_key
    p.params                   the flat parameter vector; its size tells the scorer
    p.stats.merged.token_embedding_0_output_{mean,var,num}    pooled over p.statrun.*.ema
    p.{limit}.score, .idx      the selection alone; limit: None or a number of tokens
"""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from namm_mm.errors import UsageError, message

_STEP = re.compile(r"^(\w+)\.u(\d+)\.(?:c(\d+)\.)?l(\d+)\.(\w+)$")
_SELECTION = re.compile(r"^(\w+)\.(None|\d+)\.score$")
_STATISTICS = "stats.merged.token_embedding_0_output_"


@dataclass
class Update:
    """One update of one layer.

    Attributes
    ----------
    chunks
        By number of the chunk: ``attn`` and ``new_key``.
    arrays
        What the update made of them: ``ema``, ``score``, ``retained_idx`` ...
    """

    chunks: dict[int, dict[str, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def in_order(self, kind: str) -> list[Tensor]:
        """Return the arrays of the chunks, first to last."""
        return [self.chunks[c][kind] for c in sorted(self.chunks) if kind in self.chunks[c]]

    @property
    def shape(self) -> tuple[int, int]:
        """KV heads and slots before the eviction."""
        for name, slots in (("score", 2), ("embedding", 2), ("ema", 2), ("frames", 3)):
            if name in self.arrays:
                return self.arrays[name].shape[1], self.arrays[name].shape[slots]
        raise UsageError(
            message(
                "an update of the recording has no size",
                given=sorted(self.arrays),
                expected="one of score, embedding, ema and frames",
            )
        )


@dataclass
class Drive:
    """All that was recorded under one prefix.

    Attributes
    ----------
    layers
        By number of the layer: its updates by number.
    arrays
        Everything else, by its name without the prefix.
    """

    layers: dict[int, dict[int, Update]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Update))
    )
    arrays: dict[str, Tensor] = field(default_factory=dict)

    def updates(self, layer: int) -> list[Update]:
        """Return the updates of a layer, first to last."""
        return [self.layers[layer][number] for number in sorted(self.layers[layer])]

    def statistic(self, name: str) -> Tensor | None:
        """Return the frozen ``mean``, ``var`` or ``num`` (bins,), if recorded."""
        array = self.arrays.get(f"{_STATISTICS}{name}")
        return None if array is None else array.reshape(-1)

    def pooled(self) -> list[Tensor]:
        """Return the spectra behind the statistics."""
        return [array for name, array in self.arrays.items() if name.startswith("statrun.")]

    def selections(self) -> list[tuple[int | None, Tensor, Tensor]]:
        """Return the selections: limit, scores, kept indices."""
        found = []
        for name, scores in self.arrays.items():
            limit, _, kind = name.partition(".")
            if kind == "score" and f"{limit}.idx" in self.arrays:
                number = None if limit == "None" else int(limit)
                found.append((number, scores, self.arrays[f"{limit}.idx"]))
        return found


def read_recording(path: Path) -> Mapping[str, Drive]:
    """Read a recording; return what is recorded under each prefix.

    Raises
    ------
    UsageError
        The file is missing, no ``.npz``, or holds nothing in this layout.
    """
    arrays = _read(path)
    drives: dict[str, Drive] = defaultdict(Drive)
    prefixes = {match[1] for match in map(_STEP.match, arrays) if match}
    prefixes |= {match[1] for match in map(_SELECTION.match, arrays) if match}
    for name, array in arrays.items():
        prefix, _, rest = name.partition(".")
        if prefix not in prefixes:
            continue
        if not (match := _STEP.match(name)):
            drives[prefix].arrays[rest] = array
            continue
        update = drives[prefix].layers[int(match[4])][int(match[2])]
        place = update.arrays if match[3] is None else update.chunks[int(match[3])]
        place[match[5]] = array
    if not drives:
        raise not_a_recording(path, sorted(arrays)[:8])
    return drives


def not_a_recording(path: Path, found: list[str]) -> UsageError:
    """Return the error for a file that holds nothing to compare."""
    return UsageError(
        message(
            f"{path} is no recording of a NAMM",
            given=found,
            expected="arrays named like bam.u0.c0.l0.attn, bam.u0.l0.score and bam.params, or "
            "like sel.None.score and sel.None.idx",
        )
    )


def _read(path: Path) -> dict[str, Tensor]:
    expected = "a recording: an .npz file of numeric arrays"
    try:
        with np.load(path, allow_pickle=False) as file:
            return {
                name: torch.from_numpy(array)
                for name, array in file.items()
                if array.dtype.kind in "biuf"
            }
    except FileNotFoundError as error:
        raise UsageError(message("no such file", given=str(path), expected=expected)) from error
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            message(f"{path} is no .npz file", given=str(error), expected=expected)
        ) from error
