"""Fit a NAMM to what an oracle keeps, for an evolution to start from.

Records some training prompts of the long-text task with SmolLM2 and the full cache, then fits, then
looks at what the fitted one is shown while it forgets, and fits again. What was recorded with the
full cache stays in the folder: a build that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt
    from namm_mm.namm import Namm
    from research.gradients.importance import Shown

MODEL = "smollm2-135m-instruct"
HELD_OUT = 6  # one prompt in so many is not fitted to: half choose the best, half judge it
SIZE = 0.35  # of the memory in the comparison
ORACLES = ("answer", "slope")


def build(
    *,
    out: Path,
    start: str = "provisional",
    prompts: int = 110,
    words: int = 300,
    families: Sequence[str] | None = None,
    steps: int = 350,
    rounds: int = 0,
    oracle: str = "answer",
    size: float = 0.45,
    rate: float = 1.5e-3,
    seed: int = 0,
    model: str = MODEL,
    say: Callable[[str], None] = print,
) -> Path:
    """Make a warm start.

    Parameters
    ----------
    out
        Folder: gets ``warm_start.safetensors`` with its card, and what was recorded.
    start
        The NAMM whose statistics, spectrogram and final layer it begins with.
    prompts, words
        Training prompts that are recorded, and their length.
    families
        Of the long-text task; None is all that it asks by default.
    steps
        Of each fit.
    rounds
        How often it is looked at while it forgets, and fitted again.
    oracle
        ``answer``: tokens near any place that says the answer, each as the answer's slope along it
        says; ``slope``: all tokens, as the slope says.
    size
        Part of the tokens that the threshold keeps, every head with a size of its own.
    rate
        The highest step size of a fit.
    seed
        Of prompts and fit.
    model
        The language model.
    say
        Told one line per step.

    Returns
    -------
    Path
        The NAMM, for ``namm-mm evolve start.checkpoint=...``.
    """
    from namm_mm.adapters.text.adapter import TextAdapter
    from namm_mm.evolution.prompts import Prompts, Tokenized
    from namm_mm.namm import Namm
    from namm_mm.namm.checkpoint import save
    from namm_mm.tasks.long_text.task import DEFAULT, LongTextTask
    from research.gradients.imitation import fit, held
    from research.gradients.revisit import revisit

    if oracle not in ORACLES:
        raise UsageError(
            message("unknown oracle", given=oracle, expected="an oracle", valid=ORACLES)
        )
    namm = Namm.from_pretrained(start)
    adapter = TextAdapter(model=model)
    adapter.load()
    backbone = adapter.backbone
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    task = LongTextTask(families=DEFAULT if families is None else families, words=words)
    found = Prompts(Tokenized(adapter), task.samples("train", prompts, seed)).all()
    groups = []
    for number, prompt in enumerate(found):
        shown = _record(backbone, prompt, namm, out)
        groups.append(shown if oracle == "slope" else _needed(adapter.tokenizer, prompt, shown))
        if number % 10 == 9:
            say(f"recorded {number + 1} of {len(found)} prompts")
    held_out = groups[::HELD_OUT]
    check, test = ([one for group in half for one in group] for half in _halves(held_out))
    taught = [number for number in range(len(groups)) if number % HELD_OUT]
    train = [one for number in taught for one in groups[number]]

    def on_step(step: int, kept: float) -> None:
        if step % 100 == 0:
            say(f"step {step} of {steps}: held {kept:.3f}")

    def learn(begin: Namm, number: int) -> Namm:
        vector = fit(
            begin,
            train,
            check,
            steps=steps,
            size=size,
            rate=rate,
            seed=seed + number,
            on_step=on_step,
        )
        fitted = replace(namm, parameters=vector)
        say(f"importance held by {SIZE:.0%} of the tokens: {held(fitted, test, SIZE):.3f}")
        return fitted

    before = held(namm, test, SIZE)
    say(f"importance held by {SIZE:.0%} of the tokens at the start: {before:.3f}")
    fitted = learn(namm, 0)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: looking at what it is shown while it forgets")
        for index in taught:
            train += revisit(backbone, found[index], fitted, groups[index])
        fitted = learn(fitted, number + 1)
    card: dict[str, Any] = {
        "about": f"fitted by gradient to an oracle's importance on text, from {start}; a start",
        "evolved": False,
        "made_by": f"namm-mm build warm-start start={start}",
        "oracle": oracle,
        "storage": "per_head",
        "training": f"{model}, {prompts} training prompts of long_text: "
        f"{', '.join(task.families)} (fingerprint {task.fingerprint()}), {1 + rounds} fits of "
        f"{steps} steps, seed {seed}",
        "licence": "Apache-2.0",
        "scores": {
            f"importance held by {SIZE:.0%} of the tokens, held-out prompts": round(
                held(fitted, test, SIZE), 4
            ),
            "the same of the start": round(before, 4),
        },
    }
    return save(replace(fitted, card=card), out / "warm_start.safetensors")


def _halves(groups: Sequence[list[Shown]]) -> tuple[Sequence[list[Shown]], Sequence[list[Shown]]]:
    """Every other one, and the rest; of a single one both are that one."""
    return groups[::2], groups[1::2] or groups


def _needed(tokenizer: Any, prompt: Prompt, shown: Sequence[Shown]) -> list[Shown]:
    """Importance near the answer alone; updates before it was said, or while answering, are out."""
    from research.gradients.importance import narrow
    from research.gradients.needed import needed, wanted

    mask = needed(tokenizer, prompt)
    return [
        narrow(one, wanted(mask, one.seen))
        for one in shown
        if one.seen <= len(mask) and bool(mask[: one.seen].any())
    ]


def _record(model: Any, prompt: Prompt, namm: Namm, folder: Path) -> list[Shown]:
    """Record a prompt, or read what was recorded before."""
    from safetensors.torch import load_file, save_file

    from research.gradients.importance import Shown, record

    folder.mkdir(parents=True, exist_ok=True)
    seen = hashlib.sha256(repr((prompt.digest, namm.spectrogram, namm.interval)).encode())
    path = folder / f"shown-{seen.hexdigest()[:16]}.safetensors"
    if not path.exists():
        parts = {}
        for update, one in enumerate(record(model, prompt, namm.spectrogram, namm.interval)):
            parts[f"spectrum.{update}"] = one.spectrum.contiguous()
            parts[f"importance.{update}"] = one.importance.contiguous()
        save_file(parts, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    held = load_file(path)
    return [
        Shown(held[f"spectrum.{update}"], held[f"importance.{update}"])
        for update in range(len(held) // 2)
    ]
