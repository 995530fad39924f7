"""Put a language model and the encoder of a Whisper together as a Qwen2-Audio in hub layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

PLACEHOLDER = "<|AUDIO|>"
MARGIN = 8000
"""Samples of silence after a sound, more than the convolutions see of it."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|AUDIO|>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nAnswer:{% endif %}"
)


def make_processor(language: Path, whisper: Path) -> Any:
    """Return the processor: the language model's tokenizer, and Whisper's spectrogram."""
    tokenizers: Any = transformers.AutoTokenizer
    tokenizer = tokenizers.from_pretrained(language)
    tokenizer.add_special_tokens({"additional_special_tokens": [PLACEHOLDER]})
    extractors: Any = transformers.WhisperFeatureExtractor
    extractor = extractors.from_pretrained(whisper)
    extractor.return_attention_mask = True
    made: Any = transformers.Qwen2AudioProcessor
    return made(extractor, tokenizer, chat_template=CHAT_TEMPLATE)


def make_model(language: Path, whisper: Path, processor: Any) -> Any:
    """Return both parts in one model, in bfloat16; its projector knows nothing yet.

    The language model and the encoder are as they were. Only the row of the placeholder is added to
    the embeddings, which is never said.
    """
    models: Any = transformers.AutoModelForCausalLM
    whispers: Any = transformers.WhisperModel
    text = models.from_pretrained(language, dtype=torch.bfloat16)
    known = text.get_input_embeddings().weight.shape[0]
    size = max(known, len(processor.tokenizer))
    table = text.resize_token_embeddings(size, mean_resizing=False).weight.data
    table[known:] = table[:known].float().mean(0)
    heard = whispers.from_pretrained(whisper, dtype=torch.float32)
    text.config._name_or_path = ""
    sizes: Any = transformers.Qwen2AudioConfig
    config = sizes(
        audio_config=_encoder_sizes(heard.config),
        text_config=text.config,
        audio_token_index=processor.audio_token_id,
        tie_word_embeddings=False,  # the class has no tied weights: the table is stored twice
    )
    model: Any = transformers.Qwen2AudioForConditionalGeneration(config)
    model.model.audio_tower.load_state_dict(heard.encoder.state_dict())
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.lm_head.load_state_dict({"weight": text.get_output_embeddings().weight.data})
    return model.to(torch.bfloat16).eval()


def _encoder_sizes(whisper: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen2_audio_encoder",
        "num_mel_bins": whisper.num_mel_bins,
        "encoder_layers": whisper.encoder_layers,
        "encoder_attention_heads": whisper.encoder_attention_heads,
        "encoder_ffn_dim": whisper.encoder_ffn_dim,
        "d_model": whisper.d_model,
        "max_source_positions": whisper.max_source_positions,
    }


def projector_of(model: Any) -> nn.Linear:
    """Return the part that is trained."""
    projector: nn.Linear = model.model.multi_modal_projector.linear
    return projector


def hear(tower: Any, extractor: Any, samples: Any) -> Tensor:
    """Return what the projector is given for a sound of one window: (token, width).

    Equal to the class, at a fraction of the work: it encodes the padding to a whole window too,
    which its mask then hides. Here the padding is :data:`MARGIN` samples.

    Parameters
    ----------
    tower, extractor
        Encoder and feature extractor of the model.
    samples
        (sample,) numbers at the extractor's rate.
    """
    made = extractor(
        samples,
        sampling_rate=extractor.sampling_rate,
        return_tensors="pt",
        return_attention_mask=True,
        padding="max_length",
        max_length=min(len(samples) + MARGIN, extractor.n_samples),
    )
    frames = (int(made["attention_mask"].sum()) - 1) // 2 + 1
    gelu = nn.functional.gelu
    with torch.no_grad():
        weight = tower.conv1.weight
        hidden = gelu(tower.conv1(made["input_features"].to(weight.dtype)))
        hidden = gelu(tower.conv2(hidden)).permute(0, 2, 1)[:, :frames]
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        for layer in tower.layers:
            hidden = layer(hidden, None)
        pooled: Tensor = tower.avg_pooler(hidden.permute(0, 2, 1)).permute(0, 2, 1)
        return tower.layer_norm(pooled)[0]  # type: ignore[no-any-return]
