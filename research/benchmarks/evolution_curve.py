"""Draw how an evolution went: fitness of its generations, and of its mean on the fixed prompts.

    python research/benchmarks/evolution_curve.py research/results/evolution_smollm2_pocket

Generations draw other prompts every time, so that their fitness is no learning curve; the line is.
Writes FOLDER/curve.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    """Read the run folder and draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    generations, validations = (
        _lines(folder / "generations.jsonl"),
        _lines(folder / "validations.jsonl"),
    )
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(8, 5.5), sharex=True)
    number = [line["generation"] + 1 for line in generations]
    mean = [line["fitness/mean"] for line in generations]
    best = [line["fitness/best"] for line in generations]
    above.vlines(number, mean, best, color="#bbbbbb", label="generation: mean to best")
    tried = [line["generation"] for line in validations]
    fitness = [line["validation/fitness"] for line in validations]
    above.plot(tried, fitness, "o-", color="#d62728", label="mean, on fixed prompts")
    averaged = [line for line in validations if "validation/average" in line]
    if averaged:
        above.plot(
            [line["generation"] for line in averaged],
            [line["validation/average"] for line in averaged],
            "s--", color="#d62728", mfc="white", label="average of the last means, fixed prompts",
        )  # fmt: skip
    above.set_ylabel("fitness, nats to the full cache")
    above.legend()
    kept = [line["validation/kept"] for line in validations]
    below.plot(tried, kept, "o-", color="#1f77b4", label="part kept, fixed prompts")
    sigma = [line["search/sigma"] for line in generations]
    below.plot(number, sigma, color="#2ca02c", label="step size")
    below.set_ylim(0)
    below.set_xlabel("generation")
    below.legend()
    figure.tight_layout()
    figure.savefig(folder / "curve.png", dpi=110)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
