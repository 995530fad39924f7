"""Load a video model with its tokenizer, preprocessor and chat template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.common import context, loading
from namm_mm.adapters.common.files import guarded, read_json, taught
from namm_mm.adapters.common.loaded import LoadedMediaModel
from namm_mm.adapters.common.placement import Placement
from namm_mm.adapters.video.frames import (
    SIGLIP,
    FramePreprocessor,
    processor_files,
    read_preprocessor,
)
from namm_mm.adapters.video.kinds import (
    KINDS,
    LLAVA_QWEN,
    Layout,
    VideoKind,
    kind_of,
    model_type_of,
)
from namm_mm.errors import RunError, UsageError, message

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LoadedVideoModel(LoadedMediaModel):
    """A video model and what belongs to it.

    Attributes
    ----------
    kind
        The class of the model.
    preprocess
        Turns frames into pixel values.
    processor
        The checkpoint's ``processor_config.json``, empty if it has none.
    """

    kind: VideoKind
    preprocess: FramePreprocessor
    processor: dict[str, Any]

    def layout(self, pixels: Tensor) -> Layout:
        """Return how a clip of preprocessed frames (frame, 3, height, width) becomes tokens."""
        height, width = pixels.shape[-2:]
        return self.kind.layout(height, width, self.processor, self.model.config)


def load_video_model(
    source: Path | str,
    name: str,
    placement: Placement,
    extension: context.ContextExtension | None = None,
    pooling: str | None = None,
) -> LoadedVideoModel:
    """Load and return the model that ``resolve`` found as `source` for `name`.

    Parameters
    ----------
    placement
        Devices, dtype, quantisation.
    extension
        Context extension; None for none.
    pooling
        Replaces ``mm_spatial_pool_mode``; for LLaVA's own format only.

    Raises
    ------
    UsageError
        Its class is not supported, or its context cannot be extended.
    RunError
        Files or weights are missing or damaged.
    """
    plain = read_json(source, "config.json", name)
    model_type = model_type_of(plain)
    kind = kind_of(model_type, name)
    if pooling is not None and model_type != LLAVA_QWEN:
        raise UsageError(
            message(
                f"the pooling of {name!r} cannot be chosen",
                given=pooling,
                expected="null: only models in LLaVA's own format leave it open",
            )
        )
    config = _guarded(
        lambda: _config(plain, source, name, kind, pooling), "read the configuration", name
    )
    longest = context.extend(config, extension)
    tokenizer = loading.tokenizer(source, name)
    token = _video_token(config, tokenizer, name, own=kind.own_class)
    video, processor = _processor(source, name, model_type)
    model = _model(source, name, kind, config, placement.arguments())
    return LoadedVideoModel(
        name=name,
        model=placement.to_device(model),
        tokenizer=tokenizer,
        kind=kind,
        preprocess=read_preprocessor(video, config.model_type),
        processor=processor,
        placeholder_token=token,
        placeholder=tokenizer.convert_ids_to_tokens(token),
        chat_template=_template(processor, tokenizer, kind),
        context_length=longest,
        answer_by=taught(source),
    )


def _config(
    plain: dict[str, Any], source: Path | str, name: str, kind: VideoKind, pooling: str | None
) -> Any:
    if kind.own_class:
        chosen = {} if pooling is None else {"mm_spatial_pool_mode": pooling}
        return import_module(kind.module).read_config({**plain, **chosen}, name)
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(source)


def _model(
    source: Path | str, name: str, kind: VideoKind, config: Any, arguments: dict[str, Any]
) -> Any:
    module = import_module(kind.module)
    if kind.own_class:
        arguments = {**arguments, "key_mapping": module.RENAMED}
    loader = getattr(module, kind.model_class)
    model, info = _guarded(
        lambda: loader.from_pretrained(
            source, config=config, output_loading_info=True, **arguments
        ),
        "load the weights",
        name,
    )
    loading.check_weights(info, source, name, kind.model_class)
    return model


def _processor(
    source: Path | str, name: str, model_type: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        return processor_files(source, name)
    except RunError:
        if model_type != LLAVA_QWEN:
            raise
        return dict(SIGLIP), {}  # these numbers are constants of the published code


def _template(processor: dict[str, Any], tokenizer: Any, kind: VideoKind) -> str | None:
    if kind.own_class:  # the template of the tokenizer has no place for a video
        return None
    template: str | None = processor.get("chat_template") or tokenizer.chat_template
    return template


def _video_token(config: Any, tokenizer: Any, name: str, *, own: bool) -> int:
    """Return the id of the video token; for LLaVA's own format the token is added."""
    if own:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
        config.image_token_id, config.video_token_id = tokenizer.convert_tokens_to_ids(
            ["<image>", "<video>"]
        )
    token = int(config.video_token_id)
    rows = config.get_text_config().vocab_size
    if token >= len(tokenizer) or (own and token >= rows):
        raise RunError(
            message(
                f"the tokenizer of {name!r} has no token for the video",
                given=f"{len(tokenizer)} tokens, {rows} embeddings",
                expected=f"a vocabulary that holds the model's video token {token}",
            )
        )
    return token


def _guarded(load: Callable[[], Any], what: str, name: str) -> Any:
    return guarded(load, what, name, KINDS, "a video")
