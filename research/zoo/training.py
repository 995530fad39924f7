"""Train a model of the zoo in about a minute of one CPU core.

So small a model finds out only after thousands of steps that it can look up what stood above. One
head of the first layer is therefore shown the token before, and one head of a later layer the place
where the answer stood (supervised attention, as of Liu et al., arXiv 1609.04186), for the
first part of the training. Which heads these are is drawn from the seed of the model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from namm_mm.models.cache import cache_root, in_cache
from research.zoo.recipes import POSITIONS, Recipe, new_model, recipe
from research.zoo.samples import RECALL, Samples, Source

CARD = "zoo.json"
COMMITTED = Path(__file__).with_name("weights")  # in half precision, of this VERSION
VERSION = 1  # of recipes and training: a change that alters weights raises it
LEARNING_RATE, WARM_UP = 5e-3, 30
SLOWER = {"gpt2": 2.0}  # learned positions need more steps
LENGTH = 224  # tokens of the samples that models are judged on
EVERY = 100


@dataclass(frozen=True)
class Phase:
    """A part of the training.

    Attributes
    ----------
    steps, length, batch
        Steps, tokens of a sample, and samples of a step.
    shown
        Whether two heads are shown where to look.
    """

    steps: int
    length: int
    batch: int
    shown: bool


PHASES = (Phase(250, 48, 32, True), Phase(220, 96, 20, True), Phase(280, LENGTH, 10, False))


def zoo_folder(name: str) -> Path:
    """Return where the model is: a folder of the cache, or beside this file if it is there only."""
    kept, cached = COMMITTED / name, cache_root() / f"zoo-{VERSION}-{name}"
    return kept if kept.is_dir() and not cached.is_dir() else cached


def train(name: str, say: Callable[[str], None]) -> Path:
    """Train the model `name` unless it is there, and return its folder.

    Raises
    ------
    UsageError
        There is no such model.
    """
    chosen, folder = recipe(name), zoo_folder(name)
    if folder.is_dir():
        say(f"{name}: is there")
        return folder
    torch.manual_seed(chosen.seed)
    model: Any = new_model(chosen)
    curve = _run(model, chosen, lambda line: say(f"{name}: {line}"))

    def write(work: Path) -> None:
        model.half().save_pretrained(work)
        model.float()
        size = sum(p.numel() for p in model.parameters())
        card = {"name": name, "parameters": size, **asdict(chosen), "curve": curve}
        (work / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")

    return in_cache(folder.name, write)


def _run(
    model: PreTrainedModel, chosen: Recipe, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    source = Source(chosen, "train", 0)
    factor = SLOWER.get(chosen.family, 1.0)
    total = sum(round(phase.steps * factor) for phase in PHASES)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    offsets, shown = np.random.default_rng(chosen.seed), _heads(chosen)
    curve: list[dict[str, Any]] = []
    step, begun = 0, time.process_time()
    for phase in PHASES:
        model.set_attn_implementation("eager" if phase.shown else "sdpa")
        for _ in range(round(phase.steps * factor)):
            rate = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (1.0 - 0.9 * step / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            first = int(offsets.integers(0, POSITIONS - phase.length))
            loss = _loss(model, source.draw(phase.batch, phase.length), first, phase, shown)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % EVERY == 0 or step == total:
                found = recall(model, chosen, phase.length)
                spent = round(time.process_time() - begun, 1)
                curve.append({"step": step, "cpu_seconds": spent, **found})
                say(json.dumps(curve[-1]))
    return curve


def _heads(chosen: Recipe) -> tuple[int, int, int]:
    """Return the head of the first layer, and the layer and head of the other one."""
    random = np.random.default_rng([chosen.seed, 1])
    layer = int(random.integers(1, chosen.layers))
    return int(random.integers(chosen.heads)), layer, int(random.integers(chosen.heads))


def _loss(
    model: PreTrainedModel, samples: Samples, first: int, phase: Phase, shown: tuple[int, int, int]
) -> Tensor:
    asked, wanted = samples.tokens[:, :-1], samples.tokens[:, 1:]
    found = model(
        input_ids=asked,
        position_ids=torch.arange(first, first + asked.shape[1])[None],
        use_cache=False,
        output_attentions=phase.shown,
    )
    losses = functional.cross_entropy(found.logits.mT, wanted, reduction="none")
    weights = samples.weights[:, 1:]
    loss = (losses * weights).sum() / weights.sum()
    if not phase.shown:
        return loss
    before, layer, head = shown
    previous = found.attentions[0][:, before].diagonal(-1, 1, 2)
    origins = samples.origins()[:, 1:]
    looked = found.attentions[layer][:, head].gather(2, origins.clamp_min(0)[..., None])[..., 0]
    return loss - 0.5 * (_log(previous).mean() + _log(looked[origins >= 0]).mean())


def _log(weights: Tensor) -> Tensor:
    return weights.clamp_min(1e-9).log()


def recall(model: Any, chosen: Recipe, length: int) -> dict[str, float]:
    """Return the part of the answers' tokens that are right, by family, on validation samples."""
    model.eval()
    source, found = Source(chosen, "validation", 0), {}
    with torch.no_grad():
        for family in (*RECALL, "repeats"):
            samples = source.draw(8, length, family)
            best = model(input_ids=samples.tokens[:, :-1], use_cache=False).logits.argmax(-1)
            right = (best == samples.tokens[:, 1:])[samples.answers[:, 1:]]
            found[family] = round(float(right.float().mean()), 3)
    model.train()
    return found
