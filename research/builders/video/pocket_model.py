"""The pocket video model before training: a tiny LlavaNextVideo and its word-level tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.common.choices import LETTERS, question_text
from namm_mm.models import composed as composed_model
from namm_mm.tasks.video_qa.footage import SHOTS
from namm_mm.tasks.video_qa.questions import MOST_EVENTS, ORDINALS
from namm_mm.tasks.video_qa.scenes import ATTRIBUTES, COLORS, SHAPES, SIZE

if TYPE_CHECKING:
    from transformers import LlavaNextVideoForConditionalGeneration, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% else %} ASSISTANT: {% for part in message['content'] %}{{ part['text'] }}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
MEAN = (0.45, 0.45, 0.45)
STD = (0.27, 0.27, 0.27)
SPREAD = 0.08
"""Deviation of the first weights, about 1 / sqrt(width): at the usual 0.02 so narrow a model
attends evenly to everything, and hardly learns."""

_SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<image>", "<video>")
_SENTENCES = (
    "USER: ASSISTANT: What color was the object? What shape was? Which shape appeared? "
    "Which color did not appear? Which shape flashed by? How many objects appeared? "
    "What color was the wall at the start? What color was the wall in the middle? at the end last "
    "zero no yes none is are there a an of"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over exactly the words that the generated questions use."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    text = " ".join(
        (
            _SENTENCES,
            question_text("", ["x"]),
            " ".join((*LETTERS[:8], *COLORS, *SHAPES, *ORDINALS)),
            " ".join(str(n) for n in range(MOST_EVENTS + 1)),
            # Words of later families come last, so that older weights keep their rows.
            "What changed? Which scene came first?",
            " ".join((*ATTRIBUTES, *SHOTS)),
        )
    )
    words = dict.fromkeys(word for word, _ in Whitespace().pre_tokenize_str(text))
    vocabulary = {word: index for index, word in enumerate((*_SPECIAL, *words))}
    core = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = Whitespace()
    core.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>", "<video>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlavaNextVideoForConditionalGeneration:
    """A randomly initialised pocket model: 16 patches a frame, pooled to 4 tokens, 6 layers."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
    )

    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=16,
        projection_dim=128,
        initializer_range=SPREAD,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=SPREAD,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    tokens: dict[str, int] = tokenizer.get_vocab()
    config = LlavaNextVideoConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokens["<image>"],
        video_token_index=tokens["<video>"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    return LlavaNextVideoForConditionalGeneration(config)


def take_weights(model: Any, folder: Path) -> None:
    """Start from the weights of another build in `folder`, whose vocabulary may be shorter.

    Rows of words that it did not have keep their first values.
    """
    from transformers import LlavaNextVideoForConditionalGeneration

    old: Any = LlavaNextVideoForConditionalGeneration.from_pretrained(folder)
    state = model.state_dict()
    for name, value in old.state_dict().items():
        state[name][tuple(slice(0, size) for size in value.shape)] = value.float()
    model.load_state_dict(state)


def preprocessor() -> dict[str, Any]:
    """The ``video_preprocessor_config.json`` of the asset."""
    return composed_model.preprocessor_config(SIZE, MEAN, STD)


def save_layout(
    folder: Path, model: LlavaNextVideoForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Save model, tokenizer and preprocessor as a hub repository lays them out."""
    composed_model.save_layout(folder, model, tokenizer, preprocessor())
