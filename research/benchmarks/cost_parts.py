"""Where the CPU time of one row of ``cost.py`` goes, beside that of transformers' SDPA.

    python research/benchmarks/cost_parts.py --row "namm, half" --length 4096

Parts are functions that are timed while they run, without what other parts take inside them; the
median run of ``--rounds``. ``model, the rest`` is what no part was running in; it lacks the
one decoded token, which the parts hold.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from namm_mm.memory import attention, layer, store
from namm_mm.namm import codes, spectrogram
from research.benchmarks.common import markdown, options
from research.benchmarks.cost import PLAIN, Row, measure, random_llama, rows

PARTS: tuple[tuple[Any, str, str], ...] = (
    (torch.nn.functional, "scaled_dot_product_attention", "fused attention, BAM's too"),
    (torch.nn.functional, "linear", "linear layers of the model"),
    (torch, "bmm", "products of queries and keys"),
    (torch.Tensor, "__matmul__", "products of weights and values"),
    (attention, "softmax_means", "softmax, compiled"),
    (spectrogram, "fold_frames", "frames, compiled"),
    (codes.StateCodes, "pack", "state: packed"),
    (codes.StateCodes, "unpack", "state: opened"),
    (codes.StateCodes, "means", "state: read"),
    (store.SharedStore, "keep", "kept tokens: copied"),
    (store.SharedStore, "append", "new tokens: appended"),
    (layer, "select", "selection"),
    (layer.LayerMemory, "evict", "eviction, the rest"),
    (layer.CohortMemory, "attend", "softmax and frames in torch, the rest"),
)

_SPENT: defaultdict[str, float] = defaultdict(float)
_INSIDE: list[float] = []


def main() -> None:
    """Print the table."""
    parser = options(__doc__, row="namm, half", length=4096, budget=512, rounds=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = random_llama("small", given.length + 1)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(4096, (1, given.length), generator=draw)
    for where, name, part in PARTS:
        setattr(where, name, timed(getattr(where, name), part))
    found = {row.name: row for row in rows(given.length, given.budget)}
    one, other = (run(found[name], model, tokens, given.rounds) for name in (PLAIN, given.row))
    whole = sum(one.values())
    table = [
        [part, f"{one.get(part, 0.0) / whole:.2f}", f"{other[part] / whole:.2f}"]
        for part in sorted(other, key=lambda part: -other[part])
    ]
    table.append(["all", "1.00", f"{sum(other.values()) / whole:.2f}"])
    print(markdown(("part of the prefill", PLAIN, given.row), table))
    print(f"\n1.00 is {whole:.2f} CPU s.")


def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    """Return `function`, which notes its own time under `part`."""

    def called(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        _INSIDE.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            spent = time.process_time() - start
            _SPENT[part] += spent - _INSIDE.pop()
            if _INSIDE:
                _INSIDE[-1] += spent

    return called


def run(row: Row, model: Any, tokens: torch.Tensor, rounds: int) -> dict[str, float]:
    """CPU seconds of each part of a prefill: the median run."""
    measure(row, model, tokens[:, : len(tokens[0]) // 4], 1)
    runs = []
    for _ in range(rounds):
        _SPENT.clear()
        prefill = measure(row, model, tokens, 1)["prefill"]
        parts = dict(_SPENT)
        runs.append({**parts, "model, the rest": prefill - sum(parts.values())})
    middle = statistics.median_low([sum(parts.values()) for parts in runs])
    return next(parts for parts in runs if sum(parts.values()) == middle)


if __name__ == "__main__":
    main()
