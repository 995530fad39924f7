"""Load a video model with all that turns a question about a clip into its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from namm_mm.adapters import loading
from namm_mm.adapters.video_frames import FramePreprocessor, processor_files, read_preprocessor
from namm_mm.adapters.video_kinds import KINDS, Layout, VideoKind, kind_of
from namm_mm.errors import RunError, UsageError, message

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor


@dataclass(frozen=True)
class LoadedVideoModel:
    """A model and what belongs to it.

    Attributes
    ----------
    model, tokenizer
        Of transformers, the model in evaluation mode on its device.
    kind
        Which of the served classes it is.
    preprocess
        Turns frames into pixel values.
    processor
        The checkpoint's ``processor_config.json``, empty if it has none.
    video_token, placeholder
        Token id that stands for the video, and its text.
    chat_template
        The checkpoint's template, if any.
    """

    model: Any
    tokenizer: Any
    kind: VideoKind
    preprocess: FramePreprocessor
    processor: dict[str, Any]
    video_token: int
    placeholder: str
    chat_template: str | None

    @property
    def pad_token(self) -> int | None:
        """The token to pad with: the tokenizer's own, or that of the end."""
        token: int | None = self.tokenizer.pad_token_id
        return self.tokenizer.eos_token_id if token is None else token

    def layout(self, pixels: Tensor) -> Layout:
        """How a clip of these processed frames (frame, 3, height, width) is laid out in tokens."""
        height, width = pixels.shape[-2:]
        return self.kind.layout(height, width, self.processor, self.model.config)


def load_video_model(
    source: Path | str, name: str, device: torch.device, dtype: torch.dtype
) -> LoadedVideoModel:
    """Load the model that :func:`namm_mm.asset.resolve` found as `source` for `name`.

    Raises
    ------
    UsageError
        Its class is not served.
    RunError
        Files or weights are missing or damaged.
    """
    import transformers

    config = _guarded(
        lambda: transformers.AutoConfig.from_pretrained(source), "read the configuration", name
    )
    kind = kind_of(config.model_type, name)
    video, processor = processor_files(source, name)
    tokenizer = loading.tokenizer(source, name)
    loader = getattr(transformers, kind.model_class)
    model, info = _guarded(
        lambda: loader.from_pretrained(source, dtype=dtype, output_loading_info=True),
        "load the weights",
        name,
    )
    loading.check_weights(info, source, name, kind.model_class)
    token = int(config.video_token_id)
    placeholder = tokenizer.convert_ids_to_tokens(token) if token < len(tokenizer) else None
    if placeholder is None:
        raise RunError(
            message(
                f"the tokenizer of {name!r} has no token for the video",
                given=f"{len(tokenizer)} tokens",
                expected=f"a vocabulary that holds the model's video token {token}",
            )
        )
    return LoadedVideoModel(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        kind=kind,
        preprocess=read_preprocessor(video, config.model_type),
        processor=processor,
        video_token=token,
        placeholder=placeholder,
        chat_template=processor.get("chat_template") or tokenizer.chat_template,
    )


def _guarded(load: Any, what: str, name: str) -> Any:
    """Call `load`; word whatever goes wrong in it."""
    try:
        return load()
    except Exception as error:  # safetensors, huggingface_hub and torch each have their own
        first = (str(error).strip().splitlines() or [""])[0]
        if "model type" in first:
            raise UsageError(
                message(
                    f"cannot {what} of {name!r} ({first})",
                    given=name,
                    expected="a video model of transformers, of a known class",
                    valid=KINDS,
                )
            ) from error
        raise RunError(
            message(
                f"cannot {what} of {name!r} ({type(error).__name__}: {first})",
                given=name,
                expected="a complete model in hub layout",
                then="`namm-mm list` shows what is here and how to get the rest.",
            )
        ) from error
