"""A NAMM: one parameter vector with all that is needed to use it on any model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import Tensor

from namm_mm.errors import UsageError, message
from namm_mm.namm import checkpoint, hub
from namm_mm.namm.bam import Bam
from namm_mm.namm.codes import StateCodes
from namm_mm.namm.features import features
from namm_mm.namm.mlp import Linear, Mlp
from namm_mm.namm.params import BINS, LAYOUTS, Layout
from namm_mm.namm.spectrogram import Spectrogram


class Scorer(Protocol):
    """Turns the features of the tokens of a cache into one score each."""

    def score(self, features: Tensor, lengths: Tensor) -> Tensor:
        """(row, head, slot, 25) and (row, head) -> (row, head, slot); higher stays."""
        ...


SCORERS: Mapping[str, type[Bam] | type[Mlp] | type[Linear]] = {
    "bam": Bam,
    "mlp": Mlp,
    "linear": Linear,
}
"""The only table of scorers, by the name that a card holds."""

MIDDLE = 4.0
"""Deviations of a bin that have the code in the middle (:class:`StateCodes`)."""

CODED = {False: (2.0**-12, 2.0**-4), True: (0.25, 64.0)}
"""Least and largest deviation that codes are made for, of a published and of a relative signal."""

CALL = 150_000
"""Pairs of tokens that a scorer compares on a processor in about the time of one more call."""


def _ragged(lengths: Tensor, slots: int) -> bool:
    """Whether to score each head alone: on a processor, where padding costs more than calls."""
    if lengths.device.type != "cpu":
        return False
    padding = lengths.numel() * slots**2 - int(lengths.square().sum())
    return padding > CALL * lengths.numel()


@dataclass(frozen=True, eq=False)
class Namm:
    """A neural attention memory model (An Evolved Universal Transformer Memory, arXiv 2410.13166).

    It belongs to no layer, head or model: the same vector scores the tokens of all of them.

    Attributes
    ----------
    parameters
        (4172,) float32 for a BAM: the flat vector, see :mod:`namm_mm.namm.params`.
    mean, variance
        (17,) float32: frozen statistics of the spectrum.
    gamma, n_fft, hop
        The spectrogram that it was trained with.
    interval
        Tokens between two updates in its training.
    scorer
        ``bam``, ``mlp`` or ``linear``.
    relative
        It was trained on attention relative to an equal share, and not on the published features.
    card
        How it was made, from what, under which licence, and what it scored.
    """

    parameters: Tensor
    mean: Tensor
    variance: Tensor
    gamma: float = 0.99
    n_fft: int = 32
    hop: int = 16
    interval: int = 512
    scorer: str = "bam"
    relative: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)
    _copies: dict[torch.device, Namm] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.layout.split(self.parameters)
        for name in ("mean", "variance"):
            shape = tuple(getattr(self, name).shape)
            if shape != (BINS,):
                raise UsageError(
                    message(f"wrong {name} of a NAMM", given=shape, expected=f"shape ({BINS},)")
                )
        for name in ("parameters", "mean", "variance"):
            tensor = getattr(self, name)
            if not bool(tensor.isfinite().all()):
                bad = int((~tensor.isfinite()).sum())
                raise UsageError(
                    message(
                        f"a NAMM with {name} that are no numbers",
                        given=f"{bad} NaN or infinite of {tensor.numel()}",
                        expected="finite numbers",
                    )
                )
        if bool((self.variance < 0).any()):
            raise UsageError(
                message(
                    "wrong variance of a NAMM",
                    given=float(self.variance.min()),
                    expected="0 or more",
                )
            )
        if self.spectrogram.bins != BINS:
            raise UsageError(
                message(
                    "wrong window of a NAMM", given=self.n_fft, expected=f"n_fft {2 * (BINS - 1)}"
                )
            )
        self.spectrogram.check_interval(self.interval)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = checkpoint.DEFAULT,
        *,
        vector: str = "mean",
        revision: str | None = None,
    ) -> Namm:
        """Read a NAMM.

        Parameters
        ----------
        source
            The name of a bundled NAMM; a folder of :meth:`save_pretrained`; a ``.safetensors`` file
            with its card beside it; a ``.pt`` file in the format of the official trainer; or
            ``OWNER/NAME``, a repository on the Hugging Face hub.
        vector
            For a ``.pt`` file: ``mean`` of the search distribution (what the paper reports), or
            ``best_member``.
        revision
            For a repository: a branch, a tag or a commit.

        Returns
        -------
        Namm
            In float32 on the CPU.

        Raises
        ------
        UsageError
            There is no such name, file or folder, or it holds no NAMM: wrong size, NaN, missing
            parts.
        RunError
            The file is not the one that its card describes, or the hub does not give it.
        """
        path, fields = checkpoint.read(source, vector=vector, revision=revision)
        try:
            return cls(**fields)
        except (UsageError, TypeError) as error:
            raise UsageError(f"{path}: {error}") from error

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``namm.safetensors`` and its card ``namm.json`` into `folder`; return the folder.

        Raises
        ------
        UsageError
            The card does not say ``about``, ``made_by`` and ``licence``.
        """
        return checkpoint.save(self, Path(folder) / checkpoint.FILE).parent

    def push_to_hub(
        self, repository: str, *, private: bool = False, commit_message: str = "Upload a NAMM"
    ) -> str:
        """Put the NAMM into a repository on the Hugging Face hub, which is made if needed.

        It holds what :meth:`save_pretrained` writes, and a README for its page. Log in before, with
        ``hf auth login``.

        Parameters
        ----------
        repository
            ``OWNER/NAME``.
        private
            Of a new repository.
        commit_message
            The summary of the commit.

        Returns
        -------
        str
            Address of the commit.

        Raises
        ------
        UsageError
            The card does not say ``about``, ``made_by`` and ``licence``.
        RunError
            The hub refuses.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            page = hub.page(repository, self)
            (Path(folder) / "README.md").write_text(page, encoding="utf-8")
            return hub.upload(Path(folder), repository, private=private, summary=commit_message)

    @property
    def layout(self) -> Layout:
        """Names and shapes inside the flat vector."""
        if self.scorer not in LAYOUTS:
            raise UsageError(
                message("unknown scorer", given=self.scorer, expected="a scorer", valid=LAYOUTS)
            )
        return LAYOUTS[self.scorer]

    @property
    def spectrogram(self) -> Spectrogram:
        """The observation it was trained with."""
        return Spectrogram(self.n_fft, self.hop, self.gamma, self.relative)

    @property
    def codes(self) -> StateCodes:
        """How its spectrogram's state is held in 34 bytes a token.

        Codes are densest around four of its deviations. Relative means of new tokens are far below
        the older ones' (:meth:`Spectrogram.read` divides by their age): theirs are wide.
        """
        middles = self.variance.sqrt().clamp(*CODED[self.relative]) * MIDDLE
        return StateCodes(tuple(middles.tolist()), wide=self.relative)

    @property
    def storage(self) -> str | None:
        """The storage for which its threshold was set; None where its card does not say."""
        found = self.card.get("storage")
        return None if found is None else str(found)

    def features(self, spectrum: Tensor, age: Tensor) -> Tensor:
        """Features (..., slot, 25) of means (..., slot, 17) of tokens of an `age` (..., slot)."""
        return features(self.shown(spectrum, age), age, self.mean, self.variance)

    def shown(self, spectrum: Tensor, age: Tensor) -> Tensor:
        """What its statistics are of: (..., slot, 17)."""
        return self.spectrogram.read(spectrum, age)

    def score(self, spectrum: Tensor, age: Tensor, lengths: Tensor) -> Tensor:
        """Score every token of a layer's cache.

        Parameters
        ----------
        spectrum
            (row, head, slot, 17) float32: `ema` of a `SpectrogramState`. Oldest token first, tokens
            at the front of the slot axis.
        age
            (row, head, slot): how many tokens came after this one.
        lengths
            (row, head) int64: filled slots; 0 for a head that need not be scored.

        Returns
        -------
        Tensor
            (row, head, slot) float32, higher stays; meaningless in empty slots.
        """
        scorer = self._scorer
        if not _ragged(lengths, spectrum.shape[2]):
            return scorer.score(self.features(spectrum, age), lengths)
        scores = torch.zeros_like(age, dtype=torch.float32)
        for row, sizes in enumerate(lengths.tolist()):
            for head, size in enumerate(sizes):
                own = (slice(row, row + 1), slice(head, head + 1), slice(size))
                if size:
                    shown = self.features(spectrum[own], age[own])
                    scores[own] = scorer.score(shown, lengths[own[:2]])
        return scores

    @cached_property
    def _scorer(self) -> Scorer:
        return SCORERS[self.scorer].from_vector(self.parameters)

    def to(self, device: torch.device | str) -> Namm:
        """Copy to a device, once; itself if it is there already."""
        target = torch.device(device)
        if self.parameters.device == target:
            return self
        if target not in self._copies:
            moved = {
                name: getattr(self, name).to(target) for name in ("parameters", "mean", "variance")
            }
            self._copies[target] = dataclasses.replace(self, **moved)
        return self._copies[target]
