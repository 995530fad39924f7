"""A video model of packaged parts and a small trained one: SmolLM2 that sees through DINOv2.

The language model is the one that NAMMs are evolved on, the vision tower is frozen, and what is
bundled is what was trained: the projector between them and low-rank changes of the language model's
attention. :func:`compose` puts the three together, once, in the cache: an ordinary
``LlavaNextVideoForConditionalGeneration`` in hub layout, with the changes merged into the weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, message
from namm_mm.models import composed_speech, fetched
from namm_mm.models import packaged as packaged_model
from namm_mm.models.cache import cache_root, in_cache
from namm_mm.models.cards import read_card, sha256, write_card

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

TRAINED = "trained.safetensors"
LANGUAGE, VISION = "smollm2-135m-instruct", "dinov2-small"
SIZE = 56
"""Edge of the frames in pixels: 4 by 4 patches, which the model pools to 2 by 2 tokens."""

TOKENS_PER_FRAME = 4
LAYER = -6
"""Hidden states of the tower that are shown: its last ones were made for saliency alone."""

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_CARD: Mapping[str, Any] = {}
PASSED_ON = ("licence", "model_class", "answer_by")
"""Facts on the card of the trained part that hold for the whole."""
CHANGED = ("q_proj", "k_proj", "v_proj", "o_proj")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nAnswer:{% endif %}"
)


def compose(asset: Path) -> Path:
    """Return the folder of the whole model that the trained part in `asset` belongs to.

    Raises
    ------
    RunError
        One of the other parts is missing (the message holds the command), or the trained part does
        not fit them.
    """
    card = read_card(asset)
    facts = {key: card[key] for key in PASSED_ON if key in card}
    digest = sha256(asset / TRAINED)
    told = hashlib.sha256(json.dumps([digest, facts], sort_keys=True).encode()).hexdigest()
    name = f"{asset.name}-{told[:16]}"
    folder = cache_root() / name
    if folder.is_dir():
        return folder
    names = parts_of(card)
    first, second = map(_located, names)

    def write(folder: Path) -> None:
        trained = read_trained(asset / TRAINED, card)
        if hears(card):
            composed_speech.write(folder, first, second, trained)
        else:
            tokenizer = make_tokenizer(first)
            model = make_model(first, second, tokenizer)
            merge(model, trained)
            save_layout(folder, model, tokenizer, preprocessor())
        write_card(
            folder, name=asset.name, made_by=f"rm -r {folder}", about=card["about"],
            source=[*names, TRAINED], source_sha256=digest, **facts,
        )  # fmt: skip

    return in_cache(name, write)


def hears(card: Mapping[str, Any]) -> bool:
    """Whether the card is that of a speech model; the others see."""
    return card.get("model_class") == composed_speech.MODEL_CLASS


def parts_of(card: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the language model and of the encoder that a trained part belongs to."""
    if hears(card):
        return composed_speech.LANGUAGE, composed_speech.WHISPER
    return LANGUAGE, VISION


def _located(name: str) -> Path:
    if name in fetched.MODELS:
        return fetched.located(fetched.MODELS[name])
    return packaged_model.convert(packaged_model.MODELS[name])


def missing(card: Mapping[str, Any] = NO_CARD) -> str:
    """The commands that install the parts that are not here; empty if they all are.

    Without a card the parts are those of a model that sees.
    """
    wanted = []
    for name in parts_of(card):
        if name in fetched.MODELS:
            other = fetched.MODELS[name]
            wanted += [] if fetched.cached(other) else [other.command]
        else:
            model = packaged_model.MODELS[name]
            here = packaged_model.cached(model) or packaged_model.source(model)
            wanted += [] if here else [model.install]
    return " && ".join(wanted)


def make_tokenizer(language: Path) -> Any:
    """The language model's tokenizer with places for pictures, and a turn that is to be filled."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(language: Path, vision: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Both parts in one model, in bfloat16; its projector is new, and knows nothing yet."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        Dinov2Config,
        Dinov2Model,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
    )

    text: Any = AutoModelForCausalLM.from_pretrained(language, dtype=torch.bfloat16)
    known = text.get_input_embeddings().weight.shape[0]
    table = text.resize_token_embeddings(len(tokenizer), mean_resizing=False).weight.data
    table[known:] = table[:known].float().mean(0)  # stands for pictures, and is never said
    tower: Any = Dinov2Model.from_pretrained(vision)
    # Configurations remember the folder that they were read from; the whole has one of its own.
    text.config._name_or_path = ""
    seen = {**tower.config.to_dict(), "image_size": SIZE, "_name_or_path": ""}
    tokens: Any = tokenizer.convert_tokens_to_ids(["<image>", "<video>"])
    config = LlavaNextVideoConfig(
        vision_config=Dinov2Config(**{k: v for k, v in seen.items() if k != "model_type"}),
        text_config=text.config,
        image_token_index=tokens[0],
        video_token_index=tokens[1],
        vision_feature_layer=LAYER,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model: Any = LlavaNextVideoForConditionalGeneration(config)
    weights = tower.state_dict()
    places = weights["embeddings.position_embeddings"]
    side = SIZE // int(seen["patch_size"])
    weights["embeddings.position_embeddings"] = _fewer_places(places, side)
    model.model.vision_tower.load_state_dict(weights)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.tie_weights()
    torch.nn.init.zeros_(model.model.image_newline)  # of pictures, which it does not read
    return model.to(torch.bfloat16).eval()


def _fewer_places(places: Tensor, side: int) -> Tensor:
    """Positions (1, 1 + n * n, width) of a smaller picture, as the tower interpolates them."""
    import torch

    before = int((places.shape[1] - 1) ** 0.5)
    grid = places[:, 1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(side, side), mode="bicubic")
    return torch.cat([places[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def read_trained(file: Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of a trained part: ``projector.*``, and ``LAYER.MODULE.down`` and ``.up``."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise RunError(
            message(
                f"cannot read the trained part of a model ({error})",
                given=str(file),
                expected="a safetensors file",
                then=f"`{card.get('made_by', 'namm-mm build')}` makes it.",
            )
        ) from error


def merge(model: Any, trained: dict[str, Tensor]) -> None:
    """Put the projector into `model`, and add ``up @ down`` to each matrix that it changes."""
    import torch

    projector = model.model.multi_modal_projector
    layers = model.model.language_model.layers
    try:
        projector.load_state_dict(
            {
                k.removeprefix("projector."): v
                for k, v in trained.items()
                if k.startswith("projector.")
            }
        )
        with torch.no_grad():
            for number, layer in enumerate(layers):
                for name in CHANGED:
                    down, up = (trained[f"{number}.{name}.{half}"] for half in ("down", "up"))
                    weight = getattr(layer.self_attn, name).weight
                    weight += (up.float() @ down.float()).to(weight.dtype)
    except (KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise RunError(
            message(
                f"the trained part does not fit its model ({first})",
                given=f"{len(trained)} tensors",
                expected=f"a projector and {len(layers)} layers of {', '.join(CHANGED)}",
                then="`namm-mm build smollm2-video` makes it.",
            )
        ) from error


def preprocessor_config(
    size: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> dict[str, Any]:
    """Write down, in the hub's layout, that frames become squares of `size` pixels."""
    return {
        "video_processor_type": "LlavaNextVideoVideoProcessor",
        "processor_class": "LlavaNextVideoProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
        "resample": 3,
    }


def preprocessor() -> dict[str, Any]:
    """How frames are prepared for it: the values of its ``video_preprocessor_config.json``."""
    return preprocessor_config(SIZE, MEAN, STD)


def save_trained(folder: Path, part: dict[str, Tensor], config: Any) -> None:
    """Save the trained part, and the configuration of the whole: what plans are made from."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(part, folder / TRAINED)
    config.save_pretrained(folder)
    _save_preprocessor(folder, preprocessor())


def save_layout(
    folder: Path, model: Any, tokenizer: PreTrainedTokenizerBase, frames: dict[str, Any]
) -> None:
    """Save model, tokenizer and preprocessor configuration as a hub repository lays them out."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _save_preprocessor(folder, frames)


def _save_preprocessor(folder: Path, frames: dict[str, Any]) -> None:
    text = json.dumps(frames, indent=2) + "\n"
    (folder / "video_preprocessor_config.json").write_text(text, encoding="utf-8")
