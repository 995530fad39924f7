"""Speed of the command line and of reports, and the room of skewed heads, beside their targets.

    python research/benchmarks/speed_targets.py

CPU seconds of ``namm-mm --help`` and ``namm-mm list`` in a process of their own, and of a report
over 10,000 invented records of 4 policies and 20 frames each, and its size: the median of
``--rounds``, the report once. Then the allocated bytes of a cache by its live ones, right after an
eviction and a few tokens later, in a tiny model whose first head keeps all that the layer keeps.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from namm_mm.memory import attach
from namm_mm.policies.base import LayerView, Policy
from namm_mm.records import Asked, MemoryUse, Provenance, Record
from namm_mm.runs import RunInfo
from namm_mm.runs.provenance import processor
from namm_mm.testing.tiny import TINY, tiny_tokens
from namm_mm.tracking import open_run
from research.benchmarks.common import markdown, options

SKILL = {"full": 0.9, "namm": 0.8, "h2o": 0.6, "recency": 0.4}
FRAMES, LAYERS = 20, 24
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"  # with it each start compiles the package anew


@dataclass(frozen=True)
class Skewed(Policy):
    """Tokens of the first head score above all others: it keeps what the layer keeps."""

    name: ClassVar[str] = "skewed"

    def score(self, view: LayerView) -> Tensor:
        """Position, and more in the first head."""
        scores = view.positions.float()
        return scores + 1e6 * (torch.arange(scores.shape[1]) == 0)[None, :, None]


def main() -> None:
    """Print the table."""
    parser = options(__doc__, rounds=5, records=10_000)
    given = parser.parse_args()
    rows = []
    for words in ("--help", "list"):
        command([words])  # the first one compiles
        spent = statistics.median(command([words]) for _ in range(given.rounds))
        rows.append([f"`namm-mm {words}`, CPU s", "below .4", f"{spent:.2f}"])
    seconds, size = report(given.records)
    rows.append([f"report over {given.records:,} records, CPU s", "below 8", f"{seconds:.1f}"])
    rows.append(["its size, MB", "below 12", f"{size:.1f}"])
    for later, spent in zip((0, 5), room(), strict=True):
        words = f"allocated by live, skewed heads, {later} tokens after an eviction"
        rows.append([words, "at most 1.15", f"{spent:.2f}"])
    print(markdown(("", "target", "found"), rows))
    print(f"\n{processor()}, Python {sys.version.split()[0]}, torch {torch.__version__}.")


def command(words: list[str]) -> float:
    """CPU seconds of ``namm-mm`` with these words."""

    def spent() -> float:
        use = resource.getrusage(resource.RUSAGE_CHILDREN)
        return use.ru_utime + use.ru_stime

    code = f"from namm_mm.cli import main; main({words!r})"
    compiled = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    start = spent()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=compiled)
    return spent() - start


def report(count: int) -> tuple[float, float]:
    """CPU seconds of a report over `count` invented records, and its size in MB."""
    draw = np.random.default_rng(0)
    told = Provenance("speed", "f00d", "", {}, "cpu", "2026-01-01T00:00:00+00:00")
    with TemporaryDirectory() as made:
        folder = Path(made) / "run"
        info = RunInfo("speed", "transfer", {}, told)
        with open_run(folder, info, wandb_mode="disabled") as tracker:
            for sample in range(count // len(SKILL)):
                hard = draw.random()
                for policy, skill in SKILL.items():
                    tracker.record(invented(policy, sample, float(hard < skill), draw, told))
        seconds = command(["report", str(folder)])
        size = next(folder.glob("report*.html")).stat().st_size / 1e6
    return seconds, size


def invented(
    policy: str, sample: int, value: float, draw: np.random.Generator, told: Provenance
) -> Record:
    """One answered question about a video of 20 frames."""
    seen = int(draw.integers(180, 240))
    kept = 1.0 if policy == "full" else float(draw.uniform(0.3, 0.5))
    held = round(256 * seen * kept)
    parts = draw.uniform(0.5 * kept, min(1.0, 1.5 * kept), FRAMES).round(4).tolist()
    words = " ".join(f"word{number}" for number in draw.integers(0, 999, 12))
    memory = MemoryUse(
        seen, 3, (seen * kept,) * LAYERS, seen * kept + 8, seen * kept, held + 2048, held
    )
    return Record(
        experiment="speed",
        adapter="llava_video",
        model="invented",
        task="video_qa",
        dataset="f00dcafe",
        policy=policy,
        budget="full" if policy == "full" else "fraction:0.4",
        storage="per_head",
        protocol="streaming",
        interval=64,
        sample=f"video-{sample}",
        family=("shown", "order", "last", "count", "needle")[sample % 5],
        seed=sample % 3,
        value=value,
        metric="accuracy",
        answer=words,
        asked=Asked(f"Which {words}?", ("red", "blue", "green", "white"), "red", f"{sample}.mp4"),
        memory=memory,
        kept_by_kind={"frame": kept, "text": kept},
        kept_by_index={"frame": parts},
        seconds=0.5,
        first_token_seconds=0.2,
        token_seconds=0.01,
        provenance=told,
    )


def room() -> tuple[float, float]:
    """Allocated by live bytes right after an eviction, and five tokens later."""
    policy = Skewed(budget="pool:0.25")
    model: Any = TINY["llama"]()
    found = []
    for tokens in (1024, 1029):
        with torch.no_grad(), attach(model, policy, interval=256, storage="per_head") as memory:
            model(tiny_tokens(1, tokens), past_key_values=memory.cache)
        use = memory.usage()
        found.append(use.bytes_final / (use.live_final or 1))
    return found[0], found[1]


if __name__ == "__main__":
    main()
