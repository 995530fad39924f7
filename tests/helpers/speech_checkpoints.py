"""Tiny random checkpoints of the served speech classes, saved as they are published.

Published means: the weights in shards with an index, under the names that files on the hub have,
with the processor of transformers.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import video_checkpoints

from namm_mm.records import Sample
from namm_mm.sound import write_wav

WINDOW = 2
"""Seconds that a tiny model hears at once: 50 tokens."""

SPECIAL = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>", "<|im_start|>", "<|im_end|>")


def save(folder: Path, *, seed: int = 0, template: bool = True) -> Any:
    """Save a tiny Qwen2-Audio and return it. Weights are wide, so that tokens matter."""
    torch.manual_seed(seed)
    tokenizer = video_checkpoints.make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = None
    wide: dict[str, Any] = {"initializer_range": 0.3}
    config: Any = transformers.Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "d_model": 16,
            "max_source_positions": 50 * WINDOW,
            **wide,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            **wide,
        },
        audio_token_index=tokenizer.convert_tokens_to_ids(SPECIAL[0]),
        **wide,
    )
    model: Any = transformers.Qwen2AudioForConditionalGeneration(config)
    model.eval().save_pretrained(folder)
    video_checkpoints.publish(folder, published_name)
    extractor: Any = transformers.WhisperFeatureExtractor
    processor: Any = transformers.Qwen2AudioProcessor
    processor(
        extractor(feature_size=16, chunk_length=WINDOW, return_attention_mask=True),
        tokenizer,
        chat_template=None if template else "{{ messages[0]['content'][-1]['text'] }}",
    ).save_pretrained(folder)
    return model


def published_name(key: str) -> str:
    """Return the name that a weight has in the files on the hub."""
    key = re.sub(r"^model\.language_model\.", "language_model.model.", key)
    key = re.sub(r"^lm_head", "language_model.lm_head", key)
    return key.removeprefix("model.")


def samples(folder: Path) -> tuple[Sample, ...]:
    """Write three sounds of noise below `folder`, and return a question about each."""
    found = []
    for number in range(3):
        draw = np.random.default_rng(number)
        write_wav(
            folder / f"{number}.wav", 0.2 * draw.standard_normal(24_000 + 900 * number), 16_000
        )
        sounds = (folder / f"{number}.wav",)
        found.append(
            Sample(f"{number}", "noise", question="What?", options=("red", "blue"), answer="red",
                   sounds=sounds)
        )  # fmt: skip
    return tuple(found)
