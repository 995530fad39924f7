"""Set a NAMM's threshold so that it keeps a given part of text.

A NAMM that was evolved at a fixed part of the cache has learned an order of tokens; where its
scores cross 0 was left to chance. Here one number, the bias of the final layer, is moved until the
part that stays of training prompts is the one asked for. The order does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm.errors import UsageError, message
from namm_mm.records import STORAGES
from research.builders.kept_fraction import kept_fraction

if TYPE_CHECKING:
    from namm_mm.namm import Namm

MODEL = "smollm2-135m-instruct"
CLOSE = 0.005  # of the part asked for
ROUNDS = 14


def build(
    *,
    namm: str,
    out: Path,
    part: float = 0.5,
    prompts: int = 20,
    words: int = 300,
    storage: str = "shared",
    about: str = "",
    model: str = MODEL,
    say: Callable[[str], None] = print,
) -> Path:
    """Move the threshold of a NAMM.

    Parameters
    ----------
    namm
        The name of a bundled one, or a file.
    out
        The ``.safetensors`` file to write.
    part
        Of the tokens that are cached at the end of a prompt, a mean over prompts and layers.
    prompts, words
        Training prompts of the long-text task that it is measured on, and their length.
    storage
        ``shared`` or ``per_head``: in which the part is to stay.
    about
        First line of the card; by default that of `namm`.
    model
        The language model.
    say
        Told one line per step.

    Returns
    -------
    Path
        The file; its card lies beside it.
    """
    from namm_mm.adapters.text.adapter import TextAdapter
    from namm_mm.namm import Namm
    from namm_mm.namm.checkpoint import save
    from namm_mm.tasks.long_text.task import LongTextTask

    if not 0.0 < part < 1.0:
        raise UsageError(message("wrong part", given=part, expected="a number between 0 and 1"))
    if storage not in STORAGES:
        raise UsageError(
            message("unknown storage", given=storage, expected="a storage", valid=STORAGES)
        )
    start = Namm.from_pretrained(namm)
    adapter = TextAdapter(model=model)
    adapter.load()
    task = LongTextTask(words=words)
    samples = task.samples("train", prompts, seed=0)

    def measure(bias: float) -> float:
        found = kept_fraction(adapter, samples, shifted(start, bias), storage)
        say(f"bias {bias:+.4f}: {found:.3f} kept")
        return found

    bias, found = solve(measure, part)
    card = {
        **start.card,
        "about": about or start.card.get("about", "a NAMM whose threshold was moved"),
        "threshold": f"bias moved by {bias:+.4f} so that {found:.3f} of the tokens of {prompts} "
        f"training prompts stay; namm-mm build threshold part={part} storage={storage}",
        "storage": storage,
    }
    card.pop("name", None)
    card.setdefault("made_by", "namm-mm build threshold")
    card.setdefault("licence", "Apache-2.0")
    return save(replace(shifted(start, bias), card=card), out)


def shifted(namm: Namm, bias: float) -> Namm:
    """The same NAMM with `bias` added to all scores."""
    parts = {name: part.clone() for name, part in namm.layout.split(namm.parameters).items()}
    parts["score_bias"] += bias
    return replace(namm, parameters=namm.layout.join(parts))


def solve(measure: Callable[[float], float], part: float) -> tuple[float, float]:
    """Find a bias at which `measure`, which grows with it, gives `part`; return both.

    Raises
    ------
    UsageError
        No bias keeps that part: more than everything always stays.
    """
    bias, found = 0.0, measure(0.0)
    low = high = bias
    step = 0.5
    if found < part:
        while found < part and step < 1e6:
            low, bias = bias, bias + step
            found, step = measure(bias), 2 * step
        high = bias
    else:
        while found > part and step < 1e6:
            high, bias = bias, bias - step
            found, step = measure(bias), 2 * step
        low = bias
    if step >= 1e6:
        raise UsageError(
            message(
                "no threshold keeps that part",
                given=part,
                expected=f"more than {found:.3f}, which always stays: the tokens since the last "
                "update",
                then="Take longer prompts (words=...), or a larger part.",
            )
        )
    for _ in range(ROUNDS):
        if abs(found - part) <= CLOSE:
            break
        bias = (low + high) / 2
        found = measure(bias)
        low, high = (bias, high) if found < part else (low, bias)
    return bias, found
