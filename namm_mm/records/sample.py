"""A question before and after an adapter prepared it: :class:`Sample` and :class:`Inputs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

FRAME_MARK = "<image>"
"""Stands in a sample's `prompt` where the model is to see a frame of the video, or a picture."""


@dataclass(frozen=True, slots=True)
class TokenType:
    """What one token is: its kind, and which one of that kind.

    Attributes
    ----------
    kind
        ``text``, ``frame``, ``image`` (a patch of a whole picture), ``tile`` (a patch of an
        enlarged part of one), ``sound``, ``return``, ``state`` or ``action``. Of several sounds the
        kinds are ``sound 1``, ``sound 2``. A third-party modality may name its own kinds.
    index
        0 for text, the frame number for a frame, the number of the picture for an image, the second
        within the sound, the timestep for return, state and action.
    row, column
        Place of an image's patch in the picture, from 0 at the top left; None for other tokens.
    """

    kind: str
    index: int = 0
    row: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class Moment:
    """A question that is asked while a video goes on.

    Attributes
    ----------
    seconds
        Its time from the start of the video: what comes later is not seen yet.
    question, options, answer
        As those of a :class:`Sample`.
    """

    seconds: float
    question: str
    options: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Sample:
    """One question of a task, or one environment seed. Holds no tensors and knows no model.

    Attributes
    ----------
    id
        Stable and unique within the task: records of different policies are paired by it.
    family
        The group that tables break down by: a question family, or an environment.
    context
        Text that comes before the question (empty where there is none).
    question
        What is asked; for a video, asked after the frames.
    options
        Texts to choose from. Empty means: generate an answer.
    answer
        The right answer: the text of one of `options`, or the text to generate.
    video
        The file to look at, if any.
    images
        Picture files to look at, in order.
    sounds
        The files to listen to, in order.
    prompt
        The whole of what the model is told, options included, where a benchmark prescribes the
        words; empty lets the adapter word context, question and options. With a
        :data:`FRAME_MARK` for each frame, text and frames alternate; without, the video is first.
    moments
        For a film, what is asked while it goes on, by time. `question` and `options` are empty
        then, and `answer` holds the right answers, one a line.
    seed
        Seed of the sample itself (an environment seed, or that of the generator).
    metadata
        What the task needs to score the answer, or keeps for its own tables (JSON values only).
    fault
        Why the sample cannot be asked; empty if it can. It is counted as an error, and never
        prepared.
    """

    id: str
    family: str
    context: str = ""
    question: str = ""
    options: tuple[str, ...] = ()
    answer: str = ""
    video: Path | None = None
    images: tuple[Path, ...] = ()
    sounds: tuple[Path, ...] = ()
    prompt: str = ""
    moments: tuple[Moment, ...] = ()
    seed: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the sample is about, in order."""
        return (*((self.video,) if self.video else ()), *self.images, *self.sounds)


@dataclass(frozen=True)
class Inputs:
    """A sample as the model takes it.

    Attributes
    ----------
    tensors
        Keyword arguments of the model's forward, batch of one, on the model's device.
    token_types
        One for each token of the sequence, in order.
    sample
        The sample that was prepared.
    details
        What the preparation found and the record keeps, such as the number of frames (JSON values
        only).
    """

    tensors: Mapping[str, Tensor]
    token_types: tuple[TokenType, ...]
    sample: Sample
    details: Mapping[str, Any] = field(default_factory=dict)
