"""Every family of language models is served rightly or refused; there is no third way.

`UPDATE_SNAPSHOTS=1` writes what was found into docs/served-models.md.
"""

from __future__ import annotations

import os
from pathlib import Path

import families
import family_walk
import pytest

pytestmark = [pytest.mark.numeric, pytest.mark.filterwarnings("ignore")]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "served-models.md"
SERVED = (
    "llama", "qwen3", "mistral", "gemma2", "gpt_oss", "gemma3_text", "deepseek_v3", "minicpm3",
    "qwen3_next", "jamba", "bamba", "granitemoehybrid", "falcon_h1", "zamba2", "lfm2", "jetmoe",
    "whisper", "bart", "llava", "qwen2_vl",
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
