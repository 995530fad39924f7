"""KVzip, a bound: its scores are those of a dense pass in which the model repeats its prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.cli import main
from namm_mm.errors import UsageError
from namm_mm.experiment import run
from namm_mm.experiment.reading import from_mapping
from namm_mm.memory import attach, repetition
from namm_mm.memory.repetition import repetition_scores
from namm_mm.policies import create
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

pytestmark = pytest.mark.numeric
PROMPT, REQUEST = 90, [5, 6, 7]


def dense(model: Any, tokens: list[int], repeated: list[int]) -> list[torch.Tensor]:
    """(kv_head, token) of each layer, from the eager attention of the whole sequence."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = model(torch.tensor([[*tokens, *repeated]]), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    return [
        layer[0, :, len(tokens) :, : len(tokens)].unflatten(0, (2, 2)).amax((1, 2))
        for layer in attentions
    ]


@pytest.mark.parametrize("chunk", [2048, 40])
def test_the_scores_are_the_largest_weights_of_a_repetition(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetition, "CHUNK", chunk)
    model, tokens = tiny_llama(), tiny_tokens(1, PROMPT)[0].tolist()
    found = repetition_scores(model, tokens, REQUEST)
    passes = [
        dense(model, tokens, [*REQUEST, *tokens[start : start + chunk]])
        for start in range(0, PROMPT, chunk)
    ]
    for layer, scores in enumerate(found):
        expected = torch.stack([each[layer] for each in passes]).amax(0)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-6)


def test_the_bound_keeps_the_best_of_a_layer_and_what_came_later() -> None:
    model, ids = tiny_llama(), tiny_tokens(1, 150)
    scores = repetition_scores(model, ids[0, :PROMPT].tolist(), REQUEST)
    policy = create("kvzip", budget="tokens:60", sinks=0).for_repetition(scores)
    with torch.no_grad(), attach(model, policy, interval=150) as memory:
        model(ids)
    for layer, known in enumerate(scores):
        ranked = torch.cat([known, torch.full((2, 60), 9.0)], 1)
        best = {divmod(i, 150) for i in ranked.flatten().topk(120).indices.tolist()}
        kept = {(h, p) for h, head in enumerate(memory.kept(layer)) for p in head.tolist()}
        assert kept == best
    assert policy.storage == "per_head"


def test_it_says_that_it_is_a_bound_and_runs_on_text_alone(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny)
    cell = {
        "adapter": {"name": "text", "model": "text", "dtype": "float32", "device": "cpu"},
        "task": {"name": "long_text", "words": 100, "families": ["passkey"]},
        "policies": ["kvzip", {"name": "criticalkv", "over": "kvzip"}],
        "budgets": ["fraction:0.5"],
        "interval": 32,
        "limit": 1,
    }
    settings = from_mapping({"name": "b", "cells": {"text": cell}, "wandb": "disabled"})
    records = run(settings, folder=tmp_path / "run").records
    assert [record.error for record in records] == ["", ""]
    assert [r.policy for r in records] == ["kvzip (bound)", "criticalkv(kvzip (bound))"]
    words = "evaluate adapter=llava_video adapter.model=video task=video_qa policy=kvzip"
    assert main([*words.split(), "budget=pool:0.5", "storage=per_head"]) == 2
    assert "'kvzip (bound)' is for text" in capsys.readouterr().err
    model = tiny_llama()
    with (
        torch.no_grad(),
        attach(model, create("kvzip"), interval=32),
        pytest.raises(UsageError, match="has not seen the model repeat"),
    ):
        model(tiny_tokens(1, 64))
