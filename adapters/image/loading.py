"""Load an image-text-to-text model with its published processor.

The processor is the class of transformers itself. Its image processor is the one that computes with
PIL, so that pixel values are the same on every machine, and torchvision is not needed. A processor
that has a part for videos is built without that part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.adapters.common import context, loading
from namm_mm.adapters.common.files import guarded, read_json, taught
from namm_mm.adapters.common.loaded import LoadedMediaModel
from namm_mm.adapters.common.placement import Placement
from namm_mm.adapters.image.kinds import KINDS, ImageKind, kind_of
from namm_mm.errors import RunError, message

PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Where versions of transformers keep the settings of the image processor."""


@dataclass(frozen=True, kw_only=True)
class LoadedImageModel(LoadedMediaModel):
    """An image model and what belongs to it.

    Attributes
    ----------
    kind
        The family of the model.
    processor
        The processor of transformers, without a part for videos.
    """

    kind: ImageKind
    processor: Any


def load_image_model(
    source: Path | str,
    name: str,
    placement: Placement,
    extension: context.ContextExtension | None = None,
) -> LoadedImageModel:
    """Load and return the model that ``resolve`` found as `source` for `name`.

    Raises
    ------
    UsageError
        Its class is not supported, or its context cannot be extended.
    RunError
        Files or weights are missing or damaged, or a package is missing.
    """
    model_type = str(read_json(source, "config.json", name).get("model_type", ""))
    kind = kind_of(model_type, name)
    config = _guarded(lambda: _config(source), "read the configuration", name)
    longest = context.extend(config, extension)
    tokenizer = loading.tokenizer(source, name)
    processor = load_processor(source, name, kind, tokenizer, config)
    token = int(config.image_token_id)
    if token >= len(tokenizer):
        raise RunError(
            message(
                f"the tokenizer of {name!r} has no token for a picture",
                given=f"{len(tokenizer)} tokens",
                expected=f"a vocabulary that holds the model's image token {token}",
            )
        )
    model = _guarded(
        lambda: _model(source, name, kind, config, placement.arguments()), "load the weights", name
    )
    return LoadedImageModel(
        name=name,
        model=placement.to_device(model),
        tokenizer=tokenizer,
        kind=kind,
        processor=processor,
        placeholder_token=token,
        placeholder=tokenizer.convert_ids_to_tokens(token),
        chat_template=processor.chat_template or tokenizer.chat_template,
        context_length=longest,
        answer_by=taught(source),
    )


def load_processor(
    source: Path | str, name: str, kind: ImageKind, tokenizer: Any, config: Any
) -> Any:
    """Return the processor of a checkpoint, for pictures alone.

    Raises
    ------
    RunError
        Its settings are missing, or a package that it needs is not installed.
    """
    if not any(read_json(source, file, name) for file in PREPROCESSORS):
        raise RunError(
            message(
                f"the model {name!r} has no image preprocessor",
                given=str(source),
                expected="preprocessor_config.json or processor_config.json beside it",
                then="Without the mean and size it was trained with, its answers mean nothing.",
            )
        )
    try:
        return _guarded(
            lambda: _processor(source, kind, tokenizer, config), "load the processor", name
        )
    except RunError as error:
        if isinstance(error.__cause__, ImportError):
            raise RunError(
                message(
                    f"the processor of {name!r} needs a package that is not installed",
                    given=str(error.__cause__).strip().splitlines()[0],
                    expected="an installed package",
                    then="Run `pip install 'namm-mm[image]'`.",
                )
            ) from error
        raise


def _processor(source: Path | str, kind: ImageKind, tokenizer: Any, config: Any) -> Any:
    import transformers

    published: Any = getattr(transformers, kind.processor_class)
    reader: Any = transformers.AutoImageProcessor

    pixels = reader.from_pretrained(source, backend="pil")
    settings, _ = published.get_processor_dict(source)
    parts = {"image_processor": pixels, "tokenizer": tokenizer, "video_processor": None}
    wanted = published.get_attributes()
    processor = _of_pictures(published).from_args_and_dict([parts[one] for one in wanted], settings)
    if kind.processor_class in ("LlavaProcessor", "LlavaNextProcessor"):
        _complete(processor, config)
    return processor


def _of_pictures(published: Any) -> Any:
    """Return the published class, which may lack its part for videos."""

    def check(self: Any, argument_name: str, argument: Any) -> Any:
        if argument is None and argument_name == "video_processor":
            return None
        return published.check_argument_for_proper_class(self, argument_name, argument)

    return type(published.__name__, (published,), {"check_argument_for_proper_class": check})


def _complete(processor: Any, config: Any) -> None:
    """Take from the model what older files of LLaVA's processors leave out."""
    if processor.patch_size is None:
        processor.patch_size = config.vision_config.patch_size
        processor.num_additional_image_tokens = 1  # the class token of CLIP
    if processor.vision_feature_select_strategy is None:
        processor.vision_feature_select_strategy = config.vision_feature_select_strategy


def _config(source: Path | str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(source)


def _model(
    source: Path | str, name: str, kind: ImageKind, config: Any, arguments: dict[str, Any]
) -> Any:
    import transformers

    loader = getattr(transformers, kind.model_class)
    model, info = loader.from_pretrained(
        source, config=config, output_loading_info=True, **arguments
    )
    loading.check_weights(info, source, name, kind.model_class)
    return model


def _guarded(load: Callable[[], Any], what: str, name: str) -> Any:
    return guarded(load, what, name, KINDS, "an image")
