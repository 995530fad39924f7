"""Draw the curve of an evolution or of a refinement, from its folder.

    python research/benchmarks/training_curve.py research/results/evolution_smollm2_pocket
    python research/benchmarks/training_curve.py research/results/refinement_smollm2

The generations of an evolution draw other prompts every time, so that their fitness is no learning
curve; the line of the mean on fixed prompts is. Writes FOLDER/curve.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def main() -> None:
    """Read the folder and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    steps = folder / "steps.jsonl"
    figure = refinement(steps) if steps.is_file() else evolution(folder)
    figure.tight_layout()
    figure.savefig(folder / "curve.png", dpi=110, metadata={"Software": None})


def evolution(folder: Path) -> Figure:
    """Return fitness of generations and of the mean, what is kept, and the step size."""
    generations = _lines(folder / "generations.jsonl")
    validations = _lines(folder / "validations.jsonl")
    figure = Figure(figsize=(8, 5.5))
    above, below = figure.subplots(2, 1, sharex=True)
    number = [line["generation"] + 1 for line in generations]
    mean = [line["fitness/mean"] for line in generations]
    best = [line["fitness/best"] for line in generations]
    above.vlines(number, mean, best, color="#bbbbbb", label="generation: mean to best")
    validated = [line["generation"] for line in validations]
    fitness = [line["validation/fitness"] for line in validations]
    above.plot(validated, fitness, "o-", color="#d62728", label="mean, on fixed prompts")
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
    below.plot(validated, kept, "o-", color="#1f77b4", label="fraction kept, fixed prompts")
    sigma = [line["search/sigma"] for line in generations]
    below.plot(number, sigma, color="#2ca02c", label="step size")
    below.set_ylim(0)
    below.set_xlabel("generation")
    below.legend()
    return figure


def refinement(path: Path) -> Figure:
    """Return the loss against the full cache at each validation, by fraction of the tokens."""
    validated = [line for line in _lines(path) if "validation" in line]
    figure = Figure(figsize=(8, 4))
    axes = figure.subplots()
    # Earlier versions wrote "even at" for equal sizes.
    for rule in sorted(key for key in validated[0] if "at " in key):
        fraction = float(rule.split()[-1])
        equal = not rule.startswith("at ")
        label = f"{fraction:.0%} of each head" if equal else f"{fraction:.0%} of all heads together"
        losses = [line[rule] for line in validated]
        axes.plot(
            [line["step"] for line in validated], losses, "o--" if equal else "o-", label=label
        )
    axes.axhline(0.0, color="#999999", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("nats to the full cache")
    axes.legend(title="tokens kept", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
