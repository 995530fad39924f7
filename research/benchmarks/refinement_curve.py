"""Draw how a refinement went: log-probability of the answers to prompts that never change.

    python research/benchmarks/refinement_curve.py research/results/refinement_smollm2

Writes FOLDER/curve.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Read the log and draw."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    lines = (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()
    tried = [found for found in map(json.loads, lines) if "validation" in found]
    figure, axes = pyplot.subplots(figsize=(8, 4))
    for size in sorted(key for key in tried[0] if key.startswith(("at ", "even at "))):
        part = float(size.split()[-1])
        even = size.startswith("even")
        label = f"{part:.0%} of each head" if even else f"{part:.0%} of all heads together"
        style = "o--" if even else "o-"
        axes.plot([t["step"] for t in tried], [t[size] for t in tried], style, label=label)
    axes.axhline(0.0, color="#999999", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("nats to the full cache")
    axes.legend(title="tokens held", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    figure.savefig(folder / "curve.png", dpi=110)


if __name__ == "__main__":
    main()
