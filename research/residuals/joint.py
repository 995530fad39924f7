"""Train the kernels of all layers together, after each was trained alone.

A layer that was trained alone sees the inputs of the full cache. Under evictions its inputs are
those that the layers below it have already changed. This stage runs the whole frozen model with
the states in every layer, and brings its next-token distribution close to that of the full cache.
It is not in the paper (arXiv 2402.09398), which trains each layer alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namm_mm.memory.swapping import swapped_attention
from namm_mm.policies.base import Policy
from namm_mm.residuals.less import key_features, query_features
from research.residuals import training
from research.residuals.material import Call, Material, Measure
from research.residuals.recording import record, visible

RATE, WARMUP = 2e-4, 10


@dataclass(frozen=True)
class Lesson:
    """One sequence.

    Attributes
    ----------
    call
        What the model's forward is given.
    visible
        For each layer what its queries may look at: (interval, kv_head, token) bool.
    measure
        How far two outputs are from each other.
    """

    call: Call
    visible: tuple[Tensor, ...]
    measure: Measure


def make_lessons(given: Material, policy: Policy) -> Iterator[Lesson]:
    """Yield each sequence with what `policy` keeps of it, under the attention of the full cache."""
    interval = given.interval
    for call in given.calls:
        layers = record(given.model, [call])
        seen = [visible(one[0], policy, interval, n, len(layers)) for n, one in enumerate(layers)]
        yield Lesson(call, tuple(seen), given.measure)


@contextmanager
def evicting(
    model: Any, parts: Sequence[Mapping[str, Tensor]], lesson: Lesson, interval: int
) -> Iterator[None]:
    """Run `model` with states of evicted tokens in all layers, dense, so that gradients flow."""

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Any, scaling: float,
        **_rest: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        place = module.layer_idx
        out = attend(
            parts[place], lesson.visible[place], interval, scaling, query[0], key[0], value[0]
        )
        return out[None].transpose(1, 2), None

    config = model.config.get_text_config(decoder=True)
    with swapped_attention(config, "evicting", attention, lambda **_: None):
        yield


def attend(
    part: Mapping[str, Tensor], seen: Tensor, interval: int, scaling: float,
    queries: Tensor, keys: Tensor, values: Tensor,
) -> Tensor:  # fmt: skip
    """Attention over visible tokens joined with the state of evicted ones.

    Parameters
    ----------
    part
        Kernels of the layer.
    seen
        (interval, kv_head, token) bool.
    queries, keys, values
        (head, token, head_dim).

    Returns
    -------
    Tensor
        (query_head, token, head_dim).
    """
    heads, tokens, dim = keys.shape
    grouped = queries.view(heads, -1, tokens, dim)
    products = (grouped @ keys[:, None].transpose(-1, -2)) * scaling
    kept = training.attention_over(seen, products, values, interval)
    asked, held = query_features(part, queries), key_features(part, keys)
    return training.with_state(
        asked, held, training.evicted_of(seen, interval), values, kept, interval
    )


def divergence(
    model: Any, parts: Sequence[Mapping[str, Tensor]], lesson: Lesson, interval: int
) -> Tensor:
    """How far the output is from that of the full cache."""
    with torch.no_grad():
        right = model(**lesson.call, use_cache=False)
    with evicting(model, parts, lesson, interval):
        found = model(**lesson.call, use_cache=False)
    return lesson.measure(right, found, lesson.call)


def distance(
    model: Any, parts: Sequence[Mapping[str, Tensor]], lessons: Sequence[Lesson], interval: int
) -> float:
    """Return the mean divergence over `lessons`."""
    with torch.no_grad():
        return sum(float(divergence(model, parts, one, interval)) for one in lessons) / len(lessons)


def silent(parts: Sequence[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], ...]:
    """Return kernels whose state is empty: eviction alone."""
    return tuple(
        {name: torch.zeros_like(t) if name in ("s1", "s2") else t for name, t in part.items()}
        for part in parts
    )


@dataclass(frozen=True)
class Course:
    """How all layers are trained together.

    Attributes
    ----------
    file
        Stem of the files that keep each finished pass.
    epochs, interval, seed
        Passes over the sequences, tokens between two evictions, and the seed of the order.
    """

    file: Path
    epochs: int
    interval: int
    seed: int

    def state(self, epoch: int) -> Path:
        """Return the file of a finished pass."""
        return self.file.with_suffix(f".{epoch}.pt")


def train(
    model: Any,
    parts: Sequence[Mapping[str, Tensor]],
    lessons: Sequence[Lesson],
    course: Course,
    say: Callable[[str], None],
) -> tuple[dict[str, Tensor], ...]:
    """Return trained tensors: Adam, one sequence a step, the rate warmed up, then a cosine to 0."""
    trained = [
        {name: tensor.detach().clone().float().requires_grad_() for name, tensor in part.items()}
        for part in parts
    ]
    every = [tensor for part in trained for tensor in part.values()]
    optimiser = torch.optim.Adam(every, lr=RATE)
    steps = course.epochs * len(lessons)
    for epoch in range(course.epochs):
        if course.state(epoch).is_file():
            _restore(course.state(epoch), every, optimiser)
            continue
        order = torch.Generator().manual_seed(course.seed * 1000 + epoch)
        losses: list[float] = []
        for place in torch.randperm(len(lessons), generator=order).tolist():
            step = epoch * len(lessons) + len(losses)
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.param_groups[0]["lr"] = RATE * min(cosine, (step + 1) / WARMUP)
            loss = divergence(model, trained, lessons[place], course.interval)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(every, 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
        say(f"pass {epoch}: {sum(losses) / len(losses):.4g} from the full cache")
        whole = {"tensors": every, "optimiser": optimiser.state_dict()}
        torch.save(whole, course.state(epoch).with_suffix(".part"))
        course.state(epoch).with_suffix(".part").rename(course.state(epoch))
    return tuple({name: t.detach() for name, t in part.items()} for part in trained)


def _restore(file: Path, every: Sequence[Tensor], optimiser: torch.optim.Optimizer) -> None:
    state = torch.load(file, weights_only=True)
    with torch.no_grad():
        for tensor, saved in zip(every, state["tensors"], strict=True):
            tensor.copy_(saved)
    optimiser.load_state_dict(state["optimiser"])
