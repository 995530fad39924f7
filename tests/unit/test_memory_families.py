"""Every family of language models is served rightly or refused; there is no third way.

`UPDATE_SNAPSHOTS=1` writes what was found into docs/served-models.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import families
import family_recipes
import family_walk
import pytest
import torch

from namm_mm.errors import RunError
from namm_mm.memory import attach
from namm_mm.policies import create

pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "served-models.md"
SERVED = (
    "llama", "qwen3", "mistral", "gemma2", "gpt_oss", "gemma3_text", "deepseek_v3", "minicpm3",
    "qwen3_next", "jamba", "bamba", "granitemoehybrid", "falcon_h1", "zamba2", "lfm2", "jetmoe",
    "whisper", "bart", "llava", "qwen2_vl", "dbrx", "musicgen", "gemma4_text", "molmo2",
)  # fmt: skip
REFUSED = {
    "falcon": "code of its own",
    "mpt": "code of its own",
    "bloom": "code of its own",
    "openai-gpt": "ran 0 of its 2 layers",
    "mamba": "no layer of attention",
    "minimax": "cache of its own",
    "paligemma": "not causal",
    "diffllama": "the same keys twice",
    "llama4_text": "chunked_attention",
    "gemma3n_text": "reuse the keys of other layers",
    "gemma4_assistant": "reuse the keys of other layers",
    "diffusion_gemma": "reads keys and values out of its cache",
    "blt": "not one stack of layers",
    "pi0": "not one stack of layers",
    "idefics": "did not give to its cache",
    "vision-encoder-decoder": "expected a decoder-only model",
    "deepseek_v32": "DynamicIndexedLayer",
}


@pytest.mark.parametrize("family", SERVED)
def test_what_many_use_is_served(family: str) -> None:
    verdict = family_walk.judge(family)
    assert (verdict.kind, verdict.why) == ("served", "")


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_what_cannot_be_served_is_refused_with_its_reason(family: str) -> None:
    verdict = family_walk.judge(family)
    assert verdict.kind == "refused"
    assert REFUSED[family] in verdict.why


@pytest.mark.parametrize(
    ("family", "switch", "kind"),
    [
        ("qwen2", {"use_sliding_window": True}, "served"),
        ("falcon_h1", {"attention_bias": True}, "served"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "refused"),
        ("gemma4_text", family_recipes.OWN["gemma3n_text"], "refused"),
    ],
)
def test_what_a_configuration_switches_on_is_served_or_refused(
    family: str, switch: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(family_recipes.OWN, family, switch)
    verdict = family_walk.judge(family)
    assert verdict.kind == kind, verdict.why


def test_a_part_that_generate_runs_carries_the_memory_of_the_whole_model() -> None:
    model = families.whole_model("blip-2")
    image = torch.full((1, model.config.num_query_tokens), model.config.image_token_index)
    text = torch.randint(3, 58, (1, 40), generator=torch.Generator().manual_seed(0))
    given = {
        "input_ids": torch.cat([image, text], 1),
        "pixel_values": torch.linspace(-1, 1, 3 * 28 * 28).view(1, 3, 28, 28),
        "max_new_tokens": 4,
        "do_sample": False,
    }
    plain = model.generate(**given)
    with attach(model, "full"), pytest.raises(RunError, match=r"model\.language_model"):
        model.generate(**given)
    with attach(model.language_model, "full"):
        kept = model.generate(**given)
    assert kept.tolist() == plain.tolist()
    recent = create("recency", budget="tokens:20")
    with attach(model.language_model, recent, interval=16) as memory:
        model.generate(**given)
    assert memory.usage().updates == 4
    assert len(memory.kept(0)[0]) < 40


@pytest.mark.slow
def test_every_family_is_served_or_refused_as_the_table_says() -> None:
    names = [*families.causal_families(), *families.seeing_families()]
    verdicts = [family_walk.judge(family) for family in names]
    wrong = [f"{v.family}: {v.why}" for v in verdicts if v.kind == "wrong"]
    assert not wrong, "\n".join(wrong)
    text = family_walk.table(verdicts)
    if os.environ.get("UPDATE_SNAPSHOTS"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text
