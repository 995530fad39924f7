"""The kernels in Triton's interpreter give what plain torch gives, for all shapes that are served.

Heads hold different numbers of tokens, and queries come in groups.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import pytest
import torch
from interpreted import DEVICE, needs_triton, triton_kernels
from torch import Tensor

from namm_mm.memory.attention import attend_with_normaliser, weights
from namm_mm.memory.per_head_store import PerHeadStore
from namm_mm.memory.store import SharedStore, Store
from namm_mm.namm.spectrogram import Spectrogram
from namm_mm.observations import ColumnMaxima, ColumnSums, DecayedSums
from namm_mm.observations.base import State, WeightsObservation
from namm_mm.observations.formula import Formula
from namm_mm.observations.spectrogram import SpectrogramOf

pytestmark = [needs_triton, pytest.mark.numeric]

ROWS, HEADS, OLDER, NEW = 2, 2, 70, 48
OBSERVATIONS: list[WeightsObservation] = [
    SpectrogramOf(Spectrogram()),
    SpectrogramOf(Spectrogram(relative=True)),
    ColumnSums(),
    ColumnMaxima(),
    DecayedSums(0.9),
]


CLOSE: Any = {"atol": 5e-5, "rtol": 2e-4}
NAMES = ("spectrogram", "relative", "sums", "maxima", "decayed")


def ragged_store(kind: type[Store], dim: int, dtype: torch.dtype, new: int) -> Store:
    """Heads that have lost different tokens, and then got `new` ones."""
    torch.manual_seed(dim + new)
    keys, values = torch.randn(2, ROWS, HEADS, OLDER + new, dim).to(DEVICE, dtype).unbind(0)
    store = kind(keys[:, :, :0], values[:, :, :0])
    store.append(keys[:, :, :OLDER], values[:, :, :OLDER], 0, new)
    index = torch.stack([torch.randperm(OLDER) for _ in range(ROWS * HEADS)])
    counts = torch.tensor([[OLDER, 23], [41, 64]])
    index = index.view(ROWS, HEADS, OLDER)
    for row in range(ROWS):
        for head in range(HEADS):
            index[row, head, : counts[row, head]] = index[row, head, : counts[row, head]].sort()[0]
    store.keep(index.to(DEVICE), counts, new, new)
    store.append(keys[:, :, OLDER:], values[:, :, OLDER:], OLDER, new)
    return store


def queries_of(store: Store, group: int, new: int) -> Tensor:
    like = store.padded()[0]
    return (torch.randn(ROWS, HEADS * group, new, like.shape[-1]) * 2).to(like)


def formula_of(dim: int, window: int | None = None, **more: float | Tensor | None) -> Formula:
    return Formula(dim**-0.5, window, **more)  # type: ignore[arg-type]


def reference(queries: Tensor, store: Store, formula: Formula) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp from dense weights, in float32."""
    keys, values = (part.float() for part in store.padded())
    rows, heads, _, dim = keys.shape
    count = queries.shape[2]
    grouped = queries.float().view(rows, heads, -1, count, dim)
    x = torch.einsum("rhgqd,rhsd->rhgqs", grouped, keys) * formula.scaling
    x = formula.cap(x)
    places = store.positions()[:, :, None]
    asked = torch.arange(OLDER, OLDER + count, device=DEVICE)[:, None]
    seen = (places >= 0) & (places <= asked)
    if formula.window is not None:
        seen &= places > asked - formula.window
    x = x.masked_fill(~seen[:, :, None], float("-inf"))
    total = formula.normalisers(x)
    out = torch.einsum("rhgqs,rhsd->rhgqd", (x - total[..., None]).exp(), values)
    return out.flatten(1, 2), total.flatten(1, 2)


FORMULAS = {"plain": {}, "window": {"window": 40}, "cap": {"softcap": 5.0}}


@pytest.mark.parametrize("formula", ["plain", "window", "cap", "sinks"])
@pytest.mark.parametrize(("group", "new"), [(3, 1), (1, NEW), (4, NEW)])
@pytest.mark.parametrize("kind", [SharedStore, PerHeadStore])
def test_attention_of_ragged_heads(kind: type[Store], group: int, new: int, formula: str) -> None:
    store = ragged_store(kind, 64, torch.float32, new)
    queries = queries_of(store, group, new)
    given = (
        {"sinks": torch.randn(HEADS * group).to(DEVICE)}
        if formula == "sinks"
        else FORMULAS[formula]
    )
    how = formula_of(64, **given)  # type: ignore[arg-type]
    expected = reference(queries, store, how)
    out, normaliser = triton_kernels().attend(queries, store.regions(), how)
    torch.testing.assert_close(out, expected[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(normaliser, expected[1], atol=2e-5, rtol=1e-5)
    if formula != "window":
        torch.testing.assert_close(
            attend_with_normaliser(queries, store, how)[1], normaliser, atol=2e-5, rtol=1e-5
        )


def folded(
    observation: WeightsObservation, state: State, queries: Tensor, store: Store, formula: Formula
) -> State:
    """What plain torch folds."""
    for tile in weights(queries, store, formula, tile=1000):
        state = observation.fold({name: part.clone() for name, part in state.items()}, tile)
    return state


def started(observation: WeightsObservation, store: Store) -> State:
    """A state that earlier queries left, of the older tokens."""
    older = (store.lengths_there - NEW)[..., None] > torch.arange(store.width, device=DEVICE)
    held = observation.initial(ROWS, HEADS, store.width, DEVICE)
    filled = {
        name: torch.rand_like(part) * older.view(*older.shape, *[1] * (part.dim() - 3))
        for name, part in held.items()
    }
    return observation.opened(filled)


def filled_only(state: Tensor, store: Store, observation: WeightsObservation) -> Tensor:
    filled = torch.arange(store.width, device=DEVICE) < store.lengths_there[..., None]
    wide = isinstance(observation, SpectrogramOf)
    return state.transpose(2, 3)[filled] if wide else state[filled]


@pytest.mark.parametrize("observation", OBSERVATIONS, ids=NAMES)
@pytest.mark.parametrize(
    ("dim", "dtype", "group", "window"),
    [
        (64, torch.float32, 1, None),
        (64, torch.float32, 3, 40),
        (128, torch.bfloat16, 2, None),
        (256, torch.bfloat16, 2, 90),
        (80, torch.float32, 2, None),
    ],
)
def test_statistics_of_ragged_heads(
    dim: int, dtype: torch.dtype, group: int, window: int | None, observation: WeightsObservation
) -> None:
    kernels, formula = triton_kernels(), formula_of(dim, window)
    if not kernels.observes(observation, formula):
        assert window is not None
        assert isinstance(observation, SpectrogramOf)
        assert observation.spectrogram.relative
        return
    store = ragged_store(PerHeadStore, dim, dtype, NEW)
    queries, state = queries_of(store, group, NEW), started(observation, store)
    exact = copy(store)  # torch would round the products of bfloat16
    exact._keys, exact._values = store._keys.float(), store._values.float()
    expected = folded(observation, state, queries.float(), exact, formula)
    given = {name: part.clone() for name, part in state.items()}
    out, normaliser = kernels.attend(queries, store.regions(), formula, out=False)
    assert out.shape[-1] == 0
    found = kernels.fold(observation, given, queries, NEW, normaliser, store.regions(), formula)
    for name, part in expected.items():
        got = filled_only(found[name], store, observation)
        torch.testing.assert_close(got, filled_only(part, store, observation), **CLOSE)


@pytest.mark.parametrize("observation", [OBSERVATIONS[0], OBSERVATIONS[4]], ids=lambda o: o.name)
def test_queries_that_wait_are_left_out(observation: WeightsObservation) -> None:
    kernels, formula = triton_kernels(), formula_of(64)
    store = ragged_store(SharedStore, 64, torch.float32, NEW)
    queries, state = queries_of(store, 2, NEW), started(observation, store)
    complete = NEW - 16
    expected = state
    for tile in weights(queries, store, formula, tile=1000):
        copied = {name: part.clone() for name, part in state.items()}
        expected = observation.fold(copied, tile[:, :, :complete])
    normaliser = kernels.attend(queries, store.regions(), formula, out=False)[1]
    found = kernels.fold(
        observation, state, queries, complete, normaliser, store.regions(), formula
    )
    for name, part in expected.items():
        torch.testing.assert_close(
            filled_only(found[name], store, observation),
            filled_only(part, store, observation),
            atol=2e-5,
            rtol=1e-4,
        )
