"""Speech: multiple choice and free answers about sounds, by the audio models of transformers.

The sounds are fed first and the rest of the prompt after them, in two calls on one cache. For a
streaming memory this is the same as one call. Under ``prune_after_prefill`` the sounds are the
prompt: they are pruned before the question is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from namm_mm.adapters.common.choices import question_text
from namm_mm.adapters.common.context import check_length, read_extension
from namm_mm.adapters.common.multimodal import MultimodalAdapter, check_known, check_options
from namm_mm.adapters.speech.kinds import kind_names, seconds_of, typed
from namm_mm.adapters.speech.loading import LoadedSpeechModel, load_speech_model
from namm_mm.errors import UsageError, message
from namm_mm.models.resolve import resolve
from namm_mm.records import Inputs, Sample, TokenType
from namm_mm.records.shape import SOUND, TEXT
from namm_mm.sound import Sound, read_sound
from namm_mm.sound.reading import missing_packages

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LONG = ("refuse", "windows")

SHORTEST = 0.1
"""Seconds; a shorter sound makes one token or none, and no word is that short."""


@dataclass
class SpeechAdapter(MultimodalAdapter[LoadedSpeechModel]):
    """Runs Qwen2-Audio on questions about sound files.

    Options of all such adapters are those of
    :class:`namm_mm.adapters.common.multimodal.MultimodalAdapter`.

    Parameters
    ----------
    long_sounds
        What to do with a sound that is longer than the model hears at once (30 seconds): ``refuse``
        fails its sample; ``windows`` reads it in equal windows, one after the other, in one place
        of the prompt. The model was trained without.

    Raises
    ------
    UsageError
        An option is wrong.
    """

    reads: ClassVar[frozenset[str]] = frozenset({TEXT, SOUND})
    requires: ClassVar[frozenset[str]] = frozenset({SOUND})

    model: str = "smollm2_speech"
    long_sounds: str = "refuse"

    def __post_init__(self) -> None:
        check_known(long_sounds=(self.long_sounds, LONG))
        super().__post_init__()

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the model is run, for every record."""
        return {**super().facts, "long_sounds": self.long_sounds}

    def missing(self) -> Iterator[str]:
        """Yield what the model and the reading of sounds lack here."""
        yield from super().missing()
        if absent := missing_packages():
            yield absent

    def load(self) -> None:
        """Load model and processor; see :class:`namm_mm.adapters.base.Adapter`."""
        if self._loaded is None:
            self._loaded = load_speech_model(
                resolve(self.model), self.model, self._placement, read_extension(self.rope)
            )

    def prepare(self, sample: Sample) -> Inputs:
        """Read the sounds and return the tokens of the prompt, with the sounds in their places.

        The tokens of a sound are of the kind ``sound`` (of several, ``sound 1``, ``sound 2``) with
        the second within the sound as index. All others are of the kind ``text``.
        """
        loaded = self.loaded
        check_options(sample)
        if not sample.sounds:
            raise UsageError(
                message(f"sample {sample.id!r} has no sound", given=None, expected="a sound file")
            )
        sounds = [self._heard(path) for path in sample.sounds]
        windows = [self._windows(sound) for sound in sounds]
        text = _widened(self.prompt(sample), loaded.placeholder, [len(one) for one in windows])
        made = loaded.processor(
            text=[text],
            audio=[part for one in windows for part in one],
            sampling_rate=loaded.rate,
            return_tensors="pt",
        )
        frames = made["feature_attention_mask"].sum(-1).tolist()
        tokens = [loaded.kind.tokens(count) for count in frames]
        ids = made["input_ids"][0].tolist()
        types = typed(ids, loaded.placeholder_token, self._types(windows, tokens))
        check_length(
            len(ids) + self.new_tokens,
            loaded.context_length,
            name=self.model,
            sample=sample.id,
            shorten="Ask about a shorter sound",
        )
        return Inputs(self._placed(made), types, sample, _details(sample, sounds, windows, tokens))

    def prompt(self, sample: Sample) -> str:
        """Return the whole prompt, with a placeholder for each sound: they come first."""
        loaded, count = self.loaded, len(sample.sounds)
        options = sample.options if self.lists_options else ()
        text = sample.prompt or question_text(sample.question, options, context=sample.context)
        if loaded.placeholder in text:
            raise UsageError(
                message(
                    f"sample {sample.id!r} contains the placeholder of a sound",
                    given=loaded.placeholder,
                    expected="a question without it: the adapter puts the sounds first",
                )
            )
        heard = loaded.kind.sound.replace("<sound>", loaded.placeholder)
        content = [*({"type": "audio"},) * count, {"type": "text", "text": text}]
        return loaded.turn(content, count, heard * count + text)

    def _heard(self, path: Path) -> Sound:
        """Return the sound of a file at the model's rate; too short and too long are refused."""
        loaded = self.loaded
        longest = loaded.window / loaded.rate if self.long_sounds == "refuse" else None
        sound = read_sound(
            path,
            rate=loaded.rate,
            longest=longest,
            then="Read it in windows with adapter.long_sounds=windows, or cut it.",
        )
        if sound.seconds < SHORTEST:
            raise UsageError(
                message(
                    f"the sound {path.name!r} is too short",
                    given=f"{sound.seconds:.3f} seconds",
                    expected=f"at least {SHORTEST}",
                )
            )
        return sound

    def _windows(self, sound: Sound) -> list[NDArray[np.float32]]:
        """Return the parts in which the model hears a sound: equal ones, as few as possible."""
        return np.array_split(sound.samples, -(-len(sound.samples) // self.loaded.window))

    def _types(
        self, windows: Sequence[Sequence[NDArray[np.float32]]], tokens: Sequence[int]
    ) -> list[TokenType]:
        """Return the types of the placeholders; `tokens` are those of each window."""
        left = iter(tokens)
        found = []
        for kind, parts in zip(kind_names(len(windows)), windows, strict=True):
            counts = [next(left) for _ in parts]
            length = len(parts[0]) / self.loaded.rate
            seconds = seconds_of(counts, length, self.loaded.token_seconds)
            found += [TokenType(kind, second) for second in seconds]
        return found

    def _placed(self, made: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Return the tensors on the model's device, the spectrogram in its dtype."""
        device, dtype = self.loaded.model.device, self.loaded.model.dtype
        return {
            name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
            for name, value in made.items()
        }


def _widened(prompt: str, placeholder: str, windows: Sequence[int]) -> str:
    """Return `prompt` with a placeholder for each window of a sound in place of one for each."""
    first, *others = prompt.split(placeholder)
    return first + "".join(
        placeholder * count + part for count, part in zip(windows, others, strict=True)
    )


def _details(
    sample: Sample,
    sounds: Sequence[Sound],
    windows: Sequence[Sequence[object]],
    tokens: Sequence[int],
) -> dict[str, Any]:
    """Return what the record keeps of the preparation."""
    left = iter(tokens)
    return {
        "sounds": [path.name for path in sample.sounds],
        "sound_seconds": [round(sound.seconds, 3) for sound in sounds],
        "sound_tokens": [sum(next(left) for _ in parts) for parts in windows],
    }
