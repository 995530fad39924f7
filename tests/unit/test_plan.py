"""A plan counts what a run then takes, fetches nothing, and says what would fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.cli import main
from namm_mm.errors import UsageError
from namm_mm.experiment.reading import from_evaluation
from namm_mm.experiment.settings import ExperimentSettings, PolicySettings
from namm_mm.models.known import KNOWN
from namm_mm.plan import named_device, plan
from namm_mm.plan.configuration import count, facts_of
from namm_mm.plan.downloads import is_cached
from namm_mm.plan.memory import need


def _llama(**sizes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM, LlamaConfig(vocab_size=128256, **sizes)


def _video(kind: str, vision: dict[str, Any], text: dict[str, Any]) -> Any:
    import transformers

    config = getattr(transformers, f"{kind}Config")(vision_config=vision, text_config=text)
    config.tie_word_embeddings = bool(text.get("tie_word_embeddings"))
    return getattr(transformers, f"{kind}ForConditionalGeneration"), config


CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
VICUNA = {
    "model_type": "llama",
    "vocab_size": 32064,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
QWEN2 = {
    "model_type": "qwen2",
    "vocab_size": 152000,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}


def _decision(state: int, action: int) -> Any:
    from transformers import DecisionTransformerConfig, DecisionTransformerModel

    return DecisionTransformerModel, DecisionTransformerConfig(
        state_dim=state,
        act_dim=action,
        hidden_size=128,
        n_layer=3,
        n_head=1,
        max_ep_len=1000,
        bos_token_id=None,
        eos_token_id=None,
    )


PUBLISHED: dict[str, Any] = {
    "meta-llama/Meta-Llama-3-8B": lambda: _llama(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    ),
    "meta-llama/Meta-Llama-3-70B": lambda: _llama(
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    ),
    "llava-hf/LLaVA-NeXT-Video-7B-hf": lambda: _video("LlavaNextVideo", CLIP, VICUNA),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": lambda: _video("LlavaOnevision", SIGLIP, QWEN2),
    "LanguageBind/Video-LLaVA-7B-hf": lambda: _video(
        "VideoLlava", {**CLIP, "image_size": 224}, VICUNA
    ),
    "edbeeching/decision-transformer-gym-hopper-medium": lambda: _decision(11, 3),
    "edbeeching/decision-transformer-gym-walker2d-expert": lambda: _decision(17, 6),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_counts_the_weights_of_the_published_dimensions(name: str) -> None:
    model, config = PUBLISHED[name]()
    with torch.device("meta"):
        built = model(config)
    assert count(built) == (KNOWN[name].parameters, KNOWN[name].unquantized)


def evaluation(**data: Any) -> ExperimentSettings:
    return from_evaluation({"adapter": "text", "task": "long_text", "policy": "full", **data})


@pytest.mark.parametrize(
    "policy",
    [
        PolicySettings("full"),
        PolicySettings("l2", budget="tokens:32"),
        PolicySettings("h2o", budget="tokens:32"),
        PolicySettings("namm", {"checkpoint": "namm.safetensors"}),
    ],
    ids=lambda policy: policy.name,
)
def test_the_planned_cache_is_what_a_run_then_allocates(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: PolicySettings
) -> None:
    from namm_mm.experiment import run

    monkeypatch.chdir(tiny)
    settings = evaluation(
        adapter={"name": "text", "model": "text", "dtype": "float32", "device": "cpu"},
        task={"name": "long_text", "words": 100, "families": ["passkey"]},
        policy={"name": policy.name, **policy.options},
        budget=None if policy.budget == "own" else policy.budget,
        interval=32,
        limit=1,
        wandb="disabled",
    )
    (record,) = run(settings, folder=tmp_path / "run").records
    assert record.memory is not None
    assert not record.error
    facts = facts_of("text")
    assert facts is not None
    planned = need(
        policy,
        facts,
        others=(policy,),
        context=record.memory.seen,
        prompt=record.memory.seen,
        interval=32,
        number_bytes=4,
        sequences=1,
    )
    least = (record.memory.bytes_peak - 2 * facts.query_heads * facts.head_dim * 4 * 32) / 1.1
    room = 32 * (facts.kv_per_token(4) + 8 * facts.layers * facts.kv_heads)
    if planned.at_most:
        assert record.memory.bytes_peak <= planned.cache + planned.state + room
    else:
        assert least - room <= planned.cache + planned.state <= record.memory.bytes_peak + room


def test_what_does_not_fit_is_told_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    words = "adapter.model=meta-llama/Meta-Llama-3-70B adapter.dtype=bfloat16 policy=full"
    assert main(["evaluate", *words.split(), "--plan", "--gpu", "h100"]) == 1
    printed = capsys.readouterr().out
    for part in (
        "does not fit",
        "adapter.quantization=4bit: ",
        "device_map=auto over 2 of H100",
        "hf download meta-llama/Meta-Llama-3-70B",
        "131.4 GiB, absent",
        "accept the licence",
        "320.0 KiB a token",
    ):
        assert part in printed
    assert main(["evaluate", *words.split(), "--plan", "--gpu", "h200x2"]) == 0


def test_the_largest_context_that_is_advised_fits_and_a_larger_one_does_not() -> None:
    def needs(longest: int) -> Any:
        settings = evaluation(
            adapter={
                "name": "text",
                "model": "meta-llama/Meta-Llama-3-8B",
                "dtype": "bfloat16",
                "max_length": longest,
            },
            task={"name": "long_text", "words": 1_000_000},
        )
        return plan(settings, named_device("rtx4090")).cells[0]

    (sentence,) = [s for s in needs(200_000).would_fit if s.startswith("at most")]
    advised = int(sentence.split()[2].replace(",", ""))
    assert needs(advised).fits
    assert not needs(round(advised * 1.02)).fits


def test_the_plan_as_json_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transfer", "limit=3", "--plan", "--json", "--gpu", "h100x2"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [cell["name"] for cell in plain["cells"]] == ["text", "video", "control"]
    assert plain["device"]["count"] == 2
    for cell in plain["cells"]:
        assert cell["samples"] == 3
        largest = max(need["cache"] + need["state"] + need["working"] for need in cell["needs"])
        assert cell["peak"] == pytest.approx(cell["weights"] + largest + 0.8e9)
    assert plain["cells"][1]["context_from"].startswith("32 frames of 4 tokens")
    assert plain["cells"][2]["sequences"] == 3


def test_a_model_of_which_a_shard_is_missing_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    assert not is_cached("some/model")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").write_bytes(b"")
    assert not is_cached("some/model")
    (snapshot / "model-2.safetensors").write_bytes(b"")
    assert is_cached("some/model")


def test_an_unknown_model_is_planned_without_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["adapter.model=nobody/nothing-7b", "policy=full"]
    assert main(["evaluate", *words, "--plan", "--gpu", "l4"]) == 0
    printed = capsys.readouterr().out
    assert "memory   unknown" in printed
    assert "hf download nobody/nothing-7b config.json" in printed
    assert "cannot be said" in printed


def test_an_unknown_gpu_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'h100'"):
        named_device("h10")
