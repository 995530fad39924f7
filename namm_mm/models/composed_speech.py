"""A speech model of fetched and packaged parts and a small trained one: SmolLM2 that hears.

Whisper tiny.en's encoder and the language model are as they are published; what is bundled is the
linear projector between them. Together they are an ordinary ``Qwen2AudioForConditionalGeneration``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    from torch import Tensor, nn

MODEL_CLASS = "Qwen2AudioForConditionalGeneration"
LANGUAGE, WHISPER = "smollm2-135m-instruct", "whisper-tiny-en"
PLACEHOLDER = "<|AUDIO|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'audio' %}<|AUDIO|>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nAnswer:{% endif %}"
)


def make_processor(language: Path, whisper: Path) -> Any:
    """Return the processor: the language model's tokenizer, and Whisper's spectrogram."""
    import transformers

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
    import torch
    import transformers

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


def write(folder: Path, language: Path, whisper: Path, trained: Mapping[str, Tensor]) -> None:
    """Save the whole model in hub layout.

    Parameters
    ----------
    folder
        Where to.
    language, whisper
        Folders of the parts.
    trained
        ``projector.weight`` (width, encoder width) and ``projector.bias`` (width,).

    Raises
    ------
    RunError
        The projector does not fit the parts.
    """
    processor = make_processor(language, whisper)
    model = make_model(language, whisper, processor)
    weights = {name.removeprefix("projector."): value for name, value in trained.items()}
    try:
        projector_of(model).load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            message(
                f"the trained part does not fit its model ({str(error).strip().splitlines()[-1]})",
                given=", ".join(f"{name} {tuple(value.shape)}" for name, value in trained.items()),
                expected="a projector from the encoder's width to that of the language model",
                then="`namm-mm build smollm2-speech` makes it.",
            )
        ) from error
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
