"""Load a speech model with its processor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from namm_mm.adapters.common import context, loading
from namm_mm.adapters.common.files import guarded, taught
from namm_mm.adapters.common.loaded import LoadedMediaModel
from namm_mm.adapters.common.placement import Placement
from namm_mm.adapters.speech.kinds import KINDS, SpeechKind, kind_of
from namm_mm.errors import RunError, message


@dataclass(frozen=True, kw_only=True)
class LoadedSpeechModel(LoadedMediaModel):
    """A speech model and what belongs to it.

    Attributes
    ----------
    kind
        The class of the model.
    processor
        Of transformers: tokenizer and feature extractor.
    """

    kind: SpeechKind
    processor: Any

    @property
    def feeder(self) -> Any:
        """The model without its output layer, whose class would apply it to every token."""
        return self.model.model

    @property
    def rate(self) -> int:
        """Samples per second that the model was trained on."""
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def window(self) -> int:
        """Samples that the model hears at once."""
        return int(self.processor.feature_extractor.n_samples)

    @property
    def token_seconds(self) -> float:
        """Seconds that one token stands for."""
        hop = int(self.processor.feature_extractor.hop_length)
        return self.kind.frames_per_token * hop / self.rate


def load_speech_model(
    source: Path | str,
    name: str,
    placement: Placement,
    extension: context.ContextExtension | None = None,
) -> LoadedSpeechModel:
    """Load and return the model that ``resolve`` found as `source` for `name`.

    Raises
    ------
    UsageError
        Its class is not supported, or its context cannot be extended.
    RunError
        Files or weights are missing or damaged.
    """
    config = loading.configuration(source, name)
    kind = kind_of(str(config.model_type), name)
    longest = context.extend(config, extension)
    loader: Any = transformers.AutoProcessor
    processor = guarded(
        lambda: loader.from_pretrained(source),
        "load the processor",
        name,
        KINDS,
        "a speech",
    )
    token = int(config.audio_token_id)
    if processor.tokenizer.convert_tokens_to_ids(processor.audio_token) != token:
        raise RunError(
            message(
                f"the processor of {name!r} is that of another model",
                given=processor.audio_token,
                expected=f"a token for sounds with the id {token}, as config.json says",
            )
        )
    model_class = getattr(transformers, kind.model_class)
    model, info = guarded(
        lambda: model_class.from_pretrained(
            source, config=config, output_loading_info=True, **placement.arguments()
        ),
        "load the weights",
        name,
        KINDS,
        "a speech",
    )
    loading.check_weights(info, source, name, kind.model_class)
    return LoadedSpeechModel(
        name=name,
        model=placement.to_device(model),
        tokenizer=processor.tokenizer,
        placeholder_token=token,
        placeholder=str(processor.audio_token),
        chat_template=processor.chat_template,
        context_length=longest,
        answer_by=taught(source),
        kind=kind,
        processor=processor,
    )
