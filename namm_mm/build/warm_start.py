"""Fit a NAMM to what an oracle keeps, for an evolution to start from.

Records some training prompts of the long-text task with SmolLM2 and the full cache, then fits. What
was recorded stays in the folder: a build that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
HELD_OUT = 6  # one prompt in so many is for the comparison
SIZE = 0.35  # of the memory in the comparison


def build(
    *,
    out: Path,
    start: str = "provisional",
    prompts: int = 90,
    words: int = 400,
    steps: int = 1600,
    size: float = 0.5,
    seed: int = 0,
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
    steps
        Of the fit.
    size
        Part of the tokens that the threshold keeps.
    seed
        Of prompts and fit.

    Returns
    -------
    Path
        The NAMM, for ``namm-mm evolve start.checkpoint=...``.
    """
    from namm_mm.adapters.text import TextAdapter
    from namm_mm.evolution.imitation import fit, held
    from namm_mm.namm import load
    from namm_mm.namm.checkpoint import save
    from namm_mm.tasks.long_text.task import LongTextTask

    namm = load(start)
    adapter = TextAdapter(model=MODEL)
    adapter.load()
    for parameter in adapter.backbone.parameters():
        parameter.requires_grad_(False)
    task = LongTextTask(words=words)
    groups = _record(adapter, task, namm, prompts, seed, out, say)
    test = [
        shown for number, group in enumerate(groups) if not number % HELD_OUT for shown in group
    ]
    train = [shown for number, group in enumerate(groups) if number % HELD_OUT for shown in group]

    def on_step(step: int, kept: float) -> None:
        if step % 200 == 0:
            say(f"step {step} of {steps}: held {kept:.3f}")

    vector = fit(namm, train, steps=steps, size=size, seed=seed, on_step=on_step)
    card: dict[str, Any] = {
        "about": f"fitted by gradient to an oracle's importance on text, from {start}; a start",
        "evolved": False,
        "made_by": "namm-mm build warm-start",
        "training": f"{prompts} training prompts of long_text (fingerprint {task.fingerprint()}), "
        f"{steps} steps, seed {seed}",
        "licence": "Apache-2.0",
    }
    fitted = replace(namm, parameters=vector, card=card)
    before, after = held(namm, test, SIZE), held(fitted, test, SIZE)
    card["scores"] = {
        f"importance held by {SIZE:.0%} of the tokens, held-out prompts": round(after, 4),
        "the same of the start": round(before, 4),
    }
    say(f"importance held by {SIZE:.0%} of the tokens: {before:.3f} at the start, now {after:.3f}")
    return save(replace(fitted, card=card), out / "warm_start.safetensors")


def _record(
    adapter: Any,
    task: Any,
    namm: Any,
    count: int,
    seed: int,
    out: Path,
    say: Callable[[str], None],
) -> list[list[Any]]:
    """Record prompts, or read those that were recorded before."""
    from safetensors.torch import load_file, save_file

    from namm_mm.evolution.importance import Shown, record
    from namm_mm.evolution.prompts import Prompts

    out.mkdir(parents=True, exist_ok=True)
    samples = task.samples("train", count, seed)
    prompts = Prompts(adapter, samples)
    groups = []
    for number, sample in enumerate(samples):
        prompt = prompts.prompt(sample)
        path = out / f"shown-{prompt.digest[:16]}.safetensors"
        if not path.exists():
            shown = record(adapter.backbone, prompt, namm.spectrogram, namm.interval)
            parts = {}
            for update, one in enumerate(shown):
                parts[f"spectrum.{update}"] = one.spectrum.contiguous()
                parts[f"importance.{update}"] = one.importance.contiguous()
            save_file(parts, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        held = load_file(path)
        groups.append(
            [
                Shown(held[f"spectrum.{update}"], held[f"importance.{update}"])
                for update in range(len(held) // 2)
            ]
        )
        if number % 10 == 9:
            say(f"recorded {number + 1} of {len(samples)} prompts")
    return groups
