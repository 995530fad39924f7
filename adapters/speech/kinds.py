"""The speech model classes that are supported, and how each lays out a sound in tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from namm_mm.errors import UsageError, message
from namm_mm.records import TokenType

SOUND_KIND = "sound"
"""Kind of the tokens of the only sound; of several, the kinds are ``sound 1``, ``sound 2``."""


@dataclass(frozen=True)
class SpeechKind:
    """A class of models that hear, with its layout.

    Attributes
    ----------
    model_class
        Its name in transformers.
    sound
        What stands for one sound, which is ``<sound>`` in it, before the text of a prompt: for a
        checkpoint whose chat template has no place for a sound.
    tokens
        Returns how many tokens stand for so many frames of the spectrogram, of one window.
    frames_per_token
        Frames of the spectrogram, of 10 milliseconds, that one token stands for.
    """

    model_class: str
    sound: str
    tokens: Callable[[int], int]
    frames_per_token: int


def _qwen2_audio(frames: int) -> int:
    # The rule of the processor: a convolution of stride 2, then means of two.
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


KINDS: Mapping[str, SpeechKind] = {
    "qwen2_audio": SpeechKind(
        "Qwen2AudioForConditionalGeneration",
        "<|audio_bos|><sound><|audio_eos|>",
        _qwen2_audio,
        frames_per_token=4,
    ),
}


def kind_of(model_type: str, name: str) -> SpeechKind:
    """Return the kind for a ``model_type``; raise `UsageError` if it is not supported."""
    if model_type not in KINDS:
        raise UsageError(
            message(
                f"the speech adapter does not serve the class of {name!r}",
                given=model_type,
                expected="a known model_type in its config.json",
                valid=KINDS,
                then="docs/how-to/add-an-adapter.md shows how to support another class.",
            )
        )
    return KINDS[model_type]


def kind_names(sounds: int) -> tuple[str, ...]:
    """Return the kind of token of each of so many sounds."""
    if sounds == 1:
        return (SOUND_KIND,)
    return tuple(f"{SOUND_KIND} {number}" for number in range(1, sounds + 1))


def seconds_of(window_tokens: list[int], window_seconds: float, token_seconds: float) -> list[int]:
    """Return the second within its sound of each token.

    Parameters
    ----------
    window_tokens
        Tokens of each window of the sound, in order.
    window_seconds
        Length of a window, the last one included.
    token_seconds
        Length of a token.
    """
    return [
        int(window * window_seconds + (at + 0.5) * token_seconds)
        for window, count in enumerate(window_tokens)
        for at in range(count)
    ]


def typed(ids: list[int], placeholder: int, types: list[TokenType]) -> tuple[TokenType, ...]:
    """Return the type of each token of a prompt; `types` are those of its placeholders."""
    left = iter(types)
    return tuple(next(left) if token == placeholder else TokenType("text") for token in ids)
