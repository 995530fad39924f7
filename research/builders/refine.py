"""Refine a NAMM on text by the answers of the frozen model, with gradients instead of trials.

Beyond the paper, where NAMMs are evolved. The folder holds the whole state after every step: a
build that was interrupted goes on, and gives what it would have given.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import UsageError, message

if TYPE_CHECKING:
    from namm_mm.execution.base import Result

MODEL = "smollm2-135m-instruct"
FAMILIES = ("passkey", "key_value_hint", "passage", "cloze", "code", "repeats")
NAME, LOG = "refined.safetensors", "steps.jsonl"


def build(
    *,
    out: Path,
    start: str = "evolved",
    words: int | Sequence[int] = (100, 200, 300),
    families: Sequence[str] = FAMILIES,
    objective: str = "full",
    everywhere: float = 0.0,
    steps: int = 120,
    batch: int = 12,
    rate: float = 1e-3,
    even: float = 0.5,
    intervals: int | Sequence[int] = (64, 96, 128),
    check: int = 20,
    validation_prompts: int = 24,
    seed: int = 0,
    workers: int = 1,
    minutes: float | None = None,
    model: str = MODEL,
    dtype: str = "bfloat16",
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Path:
    """Refine a NAMM.

    Parameters
    ----------
    out
        Folder: gets ``refined.safetensors`` with its card, the state, and a line for every step.
    start
        The NAMM to refine: the name of a bundled one, or a file.
    words, families
        Of the prompts of the long-text task; each has one of the lengths.
    objective, everywhere, steps, batch, rate, even, intervals, check, validation_prompts, seed
        See :class:`~research.gradients.refinement.RefinementSettings`.
    workers
        Processes, each with a model of its own; more than one needs Ray. Numbers do not depend on
        it.
    minutes
        Stop after the step in which they have passed; the same command goes on.
    model, dtype, device
        The language model, and where it runs.
    say
        Told one line per step.

    Returns
    -------
    Path
        The best by validation so far. `namm-mm build threshold` sets the part that it keeps.
    """
    from namm_mm.execution.settings import ExecutionSettings
    from namm_mm.execution.start import start as start_execution
    from namm_mm.namm import Namm
    from namm_mm.namm.checkpoint import save
    from namm_mm.registry.reader import Choice
    from namm_mm.tasks.long_text.task import LongTextTask
    from research.gradients.mixture import Mixture
    from research.gradients.refinement import Refinement, RefinementSettings
    from research.gradients.slopes import make_answers

    namm = Namm.from_pretrained(start)
    if namm.scorer != "bam":
        raise UsageError(
            message("nothing to refine", given=f"a NAMM of kind {namm.scorer!r}", expected="a bam")
        )
    lengths, intervals = _several(words), _several(intervals)
    for interval in intervals:
        namm.spectrogram.check_interval(interval)
    if not lengths:
        raise UsageError(message("wrong words", given=words, expected="one length or more"))
    tasks = tuple(LongTextTask(families=families, words=length) for length in lengths)
    task = Mixture(tasks)
    settings = RefinementSettings(
        objective=objective,
        everywhere=everywhere,
        steps=steps,
        batch=batch,
        rate=rate,
        even=even,
        intervals=intervals,
        check=check,
        validation_prompts=validation_prompts,
        seed=seed,
    )
    if workers < 1:
        raise UsageError(message("wrong workers", given=workers, expected="1 or more"))
    if out.exists() and not out.is_dir():
        raise UsageError(
            message("not a folder", given=str(out), expected="a folder, or a new name")
        )
    out.mkdir(parents=True, exist_ok=True)
    execution = ExecutionSettings("ray", workers) if workers > 1 else ExecutionSettings()
    choice = Choice("text", {"model": model, "dtype": dtype, "device": device})
    factory = functools.partial(make_answers, choice, namm, objective, everywhere)
    with closing(start_execution(execution, factory, _InMemory())) as engine:
        run = Refinement(namm, task, settings, engine, out, f"{model}, {dtype}")

        def on_step(facts: dict[str, Any]) -> None:
            rounded = {key: round(value, 4) for key, value in facts.items()}
            with (out / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(rounded) + "\n")
            say(", ".join(f"{key} {value:g}" for key, value in rounded.items()))

        vector = run.run(on_step, minutes)
    asked = tasks[0].families
    made_by = (
        f"namm-mm build refine start={start} objective={objective} everywhere={everywhere:g} "
        f"steps={steps} batch={batch} rate={rate:g} even={even:g} words={_listed(lengths)} "
        f"intervals={_listed(intervals)} families={_listed(asked)} seed={seed}"
    )
    card = {
        "about": f"refined on text: {run.best_step} steps of gradient descent through {model}, "
        f"from {Path(start).stem}",
        "evolved": False,
        "made_by": made_by,
        "licence": "Apache-2.0",
        "storage": "per_head",
        "training": f"{run.best_step * batch} training prompts of long_text: "
        f"{', '.join(asked)} ({' or '.join(map(str, lengths))} words, fingerprint "
        f"{task.fingerprint()}), {dtype}, {device}",
        "scores": {
            "validation prompts": validation_prompts,
            f"{objective}: nats to the full cache, sizes .15 and .35": round(run.best_value, 4),
            "the same of the start": round(run.start_value, 4),
        },
    }
    return save(replace(namm, parameters=vector, card=card), out / NAME)


def _several(given: int | Sequence[int]) -> tuple[int, ...]:
    return (given,) if isinstance(given, int) else tuple(given)


def _listed(values: Sequence[object]) -> str:
    return f"[{','.join(map(str, values))}]"


class _InMemory:
    """A journal for one process: a step that was interrupted is asked again by the next one."""

    def __init__(self) -> None:
        self._known: dict[str, Result] = {}

    def get(self, key: str) -> Result | None:
        """Return the result of a finished question."""
        return self._known.get(key)

    def put(self, key: str, result: Result) -> None:
        """Keep it."""
        self._known[key] = result
