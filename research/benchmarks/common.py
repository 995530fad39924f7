"""What the measurements share: options, policies of one size, intervals, files of the results."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from namm_mm import attach, policy
from namm_mm.policies import Policy, budgets
from namm_mm.results.statistics import mean_interval
from namm_mm.runs.provenance import device_name

if TYPE_CHECKING:
    from namm_mm.memory import Memory
    from namm_mm.records import Trace

NAMM = "namm"
UNLEARNED = ("h2o_16", "attention_max", "l2_all", "recency", "random")
RESULTS = Path("research/results")

Facts = dict[str, Any]
"""The numbers of a measurement, as they are written to JSON."""

_HELP = {
    "checkpoint": "the NAMM",
    "budget": "budget of the NAMM",
    "storage": "per_head or shared",
    "samples": "samples of each family",
    "interval": "tokens between two evictions",
    "words": "words of a prompt",
    "out": "the results are written to OUT.json and OUT.png",
    "output": "Markdown file of the results; None only prints them",
}


def options(doc: str | None, **defaults: object) -> argparse.ArgumentParser:
    """Return a parser with one option for each of `defaults`, of the type of its default.

    Parameters
    ----------
    doc
        The docstring of the script, whose first line describes it.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    for name, default in defaults.items():
        flag = f"--{name.replace('_', '-')}"
        told = _HELP.get(name)
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true", help=told)
        elif isinstance(default, list | tuple):
            of_each = type(default[0]) if default else str
            parser.add_argument(flag, nargs="+", default=list(default), type=of_each, help=told)
        else:
            kind = Path if default is None else type(default)
            parser.add_argument(flag, type=kind, default=default, help=told)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options of the command line, and set torch to one thread."""
    torch.set_num_threads(1)
    return parser.parse_args()


def report(
    found: Facts,
    out: Path,
    in_words: Callable[[Facts], str],
    draw: Callable[[Facts, Path], None] | None = None,
) -> None:
    """Print the results, write them to ``OUT.json``, and draw ``OUT.png`` where `draw` is given."""
    print(in_words(found))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if draw is not None:
        draw(found, out.with_suffix(".png"))


def write(text: str, output: Path | None) -> None:
    """Print a text, and write it to a file if there is one."""
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def chosen_policy(name: str, checkpoint: str, budget: str, traces: Any = None) -> Policy:
    """Return a policy with a budget; `checkpoint` is the NAMM."""
    found: Policy = policy(name, checkpoint=checkpoint) if name == NAMM else policy(name)
    return replace(found, budget=budgets.parse(budget, traces))


def namm_and_unlearned(
    model: torch.nn.Module,
    args: argparse.Namespace,
    budget: str,
    run: Callable[[Memory], None],
) -> Iterator[tuple[str, Memory]]:
    """Run a sample under the NAMM, then under other policies with as many tokens in every layer.

    Parameters
    ----------
    args
        ``checkpoint``, ``interval`` and ``storage``.
    budget
        Budget of the NAMM.
    run
        Runs the model with the attached memory.

    Yields
    ------
    tuple
        Name of the policy, and the memory after the run.
    """
    traces: dict[str, tuple[Trace, ...]] = {}
    for name in (NAMM, *UNLEARNED):
        chosen = chosen_policy(
            name, args.checkpoint, budget if name == NAMM else f"match:{NAMM}", traces
        )
        with attach(model, chosen, interval=args.interval, storage=args.storage) as memory:
            run(memory)
        traces[name] = (memory.trace(),)
        yield name, memory


def kept_by_token(memory: Memory, tokens: int, row: int = 0) -> NDArray[np.float64]:
    """Return (layer, token) float64: the fraction of the heads that keep the token."""
    found = np.zeros((memory.layers, tokens))
    for layer in range(memory.layers):
        heads = memory.kept(layer, row)
        for head in heads:
            found[layer, head.numpy()] += 1.0 / len(heads)
    return found


def interval(values: Sequence[float], places: int = 4) -> dict[str, float] | None:
    """Return mean and ends of the 95 % interval for JSON; None where there are no values."""
    found = mean_interval(values)
    if found is None:
        return None
    return {name: round(value, places) for name, value in asdict(found).items()}


def machine(device: str = "cpu") -> str:
    """Return the processor, its cores and the version of torch, for a line below a table."""
    return f"{device_name(device)}, {os.cpu_count()} cores, torch {torch.__version__}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned right, except for the first one."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))
