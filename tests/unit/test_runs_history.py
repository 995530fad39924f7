"""What a watcher of a memory sees, and the history that is kept of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic_records import make_record

from namm_mm import attach, policy
from namm_mm.errors import RunError
from namm_mm.memory.watch import Update
from namm_mm.policies.base import Budget, Policy
from namm_mm.records import Media, TokenType
from namm_mm.runs import history
from namm_mm.runs.names import file_name
from namm_mm.testing.tiny import tiny_llama

pytestmark = pytest.mark.numeric

TOKENS, INTERVAL, BUDGET = 70, 16, 9
TOKEN_TYPES = [
    TokenType("frame", token // 10) if token < 60 else TokenType("text") for token in range(TOKENS)
]


def bounded(name: str) -> Policy:
    return dataclasses.replace(policy(name), budget=Budget(tokens=BUDGET))


def ids(rows: int = 1) -> torch.Tensor:
    return torch.arange(rows * TOKENS).reshape(rows, TOKENS) % 50


@pytest.mark.parametrize("storage", ["shared", "per_head"])
def test_a_history_tells_what_the_memory_held_at_every_update(storage: str) -> None:
    model, recorder = tiny_llama().eval(), history.Recorder()
    seen: list[Update] = []

    def both(update: Update) -> None:
        seen.append(update)
        recorder(update)

    with (
        torch.no_grad(),
        attach(model, bounded("h2o"), interval=INTERVAL, storage=storage, watcher=both) as memory,
    ):
        model(ids())
    found = recorder.history(memory, TOKEN_TYPES)
    assert found.seen == (16, 32, 48, 64)
    assert len(seen) == 4 * memory.layers
    for update in seen:
        for head, positions in enumerate(update.kept[0]):
            held = found.kept(update.number, update.layer, head)[: update.seen]
            assert np.flatnonzero(held).tolist() == positions[positions >= 0].tolist()
    for layer in range(memory.layers):
        for head, kept in enumerate(memory.kept(layer)):
            assert np.flatnonzero(found.kept(None, layer, head) == 1).tolist() == kept.tolist()
    early = found.kept(1)
    assert np.isnan(early[32:]).all()
    assert np.nansum(early) == pytest.approx(BUDGET)
    frames = found.of_kind("frame", found.kept())
    assert [len(frame) for frame in frames] == [10] * 6
    assert found.scores.shape == (memory.layers, history.QUANTILES)
    assert (np.diff(found.scores) >= 0).all()


def test_each_row_of_a_batch_has_its_own_history() -> None:
    model, recorder = tiny_llama().eval(), history.Recorder()
    mask = torch.ones(2, TOKENS, dtype=torch.int64)
    mask[1, :20] = 0
    with (
        torch.no_grad(),
        attach(model, bounded("l2"), interval=INTERVAL, watcher=recorder) as memory,
    ):
        model(ids(2), attention_mask=mask)
    for row, tokens in ((0, TOKENS), (1, TOKENS - 20)):
        found = recorder.history(memory, TOKEN_TYPES[:tokens], row)
        assert found.seen == tuple(range(16, tokens + 1, 16))
        for head, kept in enumerate(memory.kept(0, row)):
            assert np.flatnonzero(found.kept(None, 0, head) == 1).tolist() == kept.tolist()


def test_the_full_cache_has_a_history_without_updates() -> None:
    model, recorder = tiny_llama().eval(), history.Recorder()
    with torch.no_grad(), attach(model, policy("full"), watcher=recorder) as memory:
        model(ids())
    found = recorder.history(memory, TOKEN_TYPES)
    assert found.seen == ()
    assert found.kept().tolist() == [1.0] * TOKENS


def test_a_watched_memory_computes_what_an_unwatched_one_does() -> None:
    model, outputs = tiny_llama().eval(), []
    for watcher in (None, history.Recorder()):
        with torch.no_grad(), attach(model, policy("namm"), interval=INTERVAL, watcher=watcher):
            outputs.append(model(ids()).logits)
    torch.testing.assert_close(*outputs)


def test_a_history_comes_back_from_its_file_and_is_small(tmp_path: Path) -> None:
    model, recorder = tiny_llama().eval(), history.Recorder()
    with (
        torch.no_grad(),
        attach(model, bounded("recency"), interval=INTERVAL, watcher=recorder) as memory,
    ):
        model(ids())
    found = recorder.history(memory, TOKEN_TYPES, pieces=("a", " b"), rewards=(1.0, 2.0), seed=3)
    name = history.save(found, tmp_path, file_name("video", "clip.mp4", "match:namm"))
    assert name == "history/video-clip.mp4-match_namm.npz"
    assert (tmp_path / name).stat().st_size < 6000
    back = history.read(tmp_path / name)
    for field in dataclasses.fields(found):
        one, other = getattr(found, field.name), getattr(back, field.name)
        assert np.array_equal(one, other), field.name
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-50])
    with pytest.raises(RunError, match="is no history"):
        history.read(tmp_path / name)
    for path in (name, "../../elsewhere.npz", ""):
        assert history.of_record(make_record(media=Media(history=path)), tmp_path) is None


def test_of_a_large_model_evenly_spaced_layers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, recorder = tiny_llama(num_hidden_layers=4).eval(), history.Recorder()
    with (
        torch.no_grad(),
        attach(model, bounded("recency"), interval=INTERVAL, watcher=recorder) as memory,
    ):
        model(ids())
    heads = len(memory.kept(0))
    monkeypatch.setattr(history, "ENTRIES", 2 * heads * TOKENS)
    assert recorder.history(memory, TOKEN_TYPES).layers == (0, 2)
