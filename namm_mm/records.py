"""The vocabulary that tasks, adapters, memory, tracking and report share.

Nothing here computes. A task makes :class:`Sample` objects, an adapter turns one into
:class:`Inputs` and answers with an :class:`Answer`, the task gives a :class:`Score`, and the
experiment writes one :class:`Record` for each scored sample. Every table, plot and report is made
from records alone, so a record carries all that a number needs: seed, provenance, memory, time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1

STORAGES = ("shared", "per_head")
"""Whether the heads of a layer keep equally many tokens, or each its own number."""

PROTOCOLS = ("streaming", "prune_after_prefill")
"""Whether a memory evicts at every interval, or once after the prompt."""


FRAME_MARK = "<image>"
"""Stands in a sample's `prompt` where a frame of its video is to be seen."""


@dataclass(frozen=True, slots=True)
class Role:
    """What one token is: its kind and which one of that kind.

    Kinds used here: ``text`` (index 0), ``frame`` (index = frame number), and ``return``,
    ``state``, ``action`` (index = timestep). A third-party modality may name its own kinds.
    """

    kind: str
    index: int = 0


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
    prompt
        The whole of what the model is told, options included, where a benchmark prescribes the
        words; empty lets the adapter word context, question and options. With a
        :data:`FRAME_MARK` for each frame, text and frames alternate; without, the video is first.
    seed
        Seed of the sample itself (an environment seed, or that of the generator).
    metadata
        Anything the task wants to find again in its score or record (JSON values only).
    """

    id: str
    family: str
    context: str = ""
    question: str = ""
    options: tuple[str, ...] = ()
    answer: str = ""
    video: Path | None = None
    prompt: str = ""
    seed: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """A sample as the model takes it.

    Attributes
    ----------
    tensors
        Keyword arguments of the model's forward, batch of one, on the model's device.
    roles
        One role for each token of the sequence, in order.
    sample
        Where it came from.
    details
        Facts of the preparation that belong into the record, such as how many frames were there
        (JSON values only).
    """

    tensors: Mapping[str, Tensor]
    roles: tuple[Role, ...]
    sample: Sample
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the model said.

    Attributes
    ----------
    text
        The generated text, or the chosen option's text.
    option
        Index of the chosen option; None when the answer was generated.
    log_probabilities
        Log-probability of each option in nats, in the order of the sample's options.
    first_token_seconds, token_seconds
        Wall time to the first token, and the mean of each later one (0.0 when there was none).
    tokens
        Number of tokens of the prompt and of the answer together.
    """

    text: str
    option: int | None = None
    log_probabilities: tuple[float, ...] = ()
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class Score:
    """A task's judgement of one answer.

    Attributes
    ----------
    value
        The number that tables average; higher is better.
    metric
        Its name: ``accuracy``, ``exact_match``, ``normalized_score``.
    details
        Further numbers or texts worth keeping (JSON values only).
    """

    value: float
    metric: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """How many tokens one row kept, at every update, in every layer and head.

    This is what ``match`` budgets replay: a baseline that follows a trace holds the same number of
    tokens as the traced run at every moment, in every layer.

    Attributes
    ----------
    sizes
        ``sizes[update][layer][head]``: tokens kept right after that update.
    """

    sizes: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def at(self, update: int, layer: int) -> tuple[int, ...] | None:
        """Sizes per head right after `update` in `layer`; past the end, those of the last."""
        if not self.sizes:
            return None
        return self.sizes[min(update, len(self.sizes) - 1)][layer]

    def even_heads(self) -> Trace:
        """As many tokens in every layer, the same for all of its heads (to within one token)."""
        return Trace(
            tuple(tuple(_even(sum(layer), len(layer)) for layer in update) for update in self.sizes)
        )

    def even_layers(self) -> Trace:
        """As many tokens in all, the same for all layers and heads (to within one token)."""
        spread = []
        for update in self.sizes:
            sizes = iter(_even(sum(map(sum, update)), sum(map(len, update))))
            spread.append(tuple(tuple(next(sizes) for _ in layer) for layer in update))
        return Trace(tuple(spread))


def _even(total: int, parts: int) -> tuple[int, ...]:
    share, rest = divmod(total, parts)
    return tuple(share + (index < rest) for index in range(parts))


@dataclass(frozen=True)
class MemoryUse:
    """What the cache of one row held.

    Attributes
    ----------
    seen
        Real tokens that the row has processed (padding excluded).
    updates
        Number of eviction rounds.
    kept_by_layer
        Tokens kept at the end, mean over heads, for each layer.
    tokens_peak, tokens_final
        Cached tokens, mean over layers and heads: the largest at any time, and at the end.
    bytes_peak, bytes_final
        Allocated bytes of keys, values, positions and policy state over all layers.
    """

    seen: int
    updates: int
    kept_by_layer: tuple[float, ...]
    tokens_peak: float
    tokens_final: float
    bytes_peak: int
    bytes_final: int


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from; the same for all records of a run."""

    run: str
    config_hash: str
    commit: str
    versions: Mapping[str, str]
    device: str
    started: str


@dataclass(frozen=True)
class Record:
    """One scored sample under one policy: the only input of tables, plots and reports.

    Attributes
    ----------
    experiment, adapter, model, task, dataset
        Which cell of the experiment; `dataset` is a fingerprint of the samples.
    policy, budget, storage, protocol, interval
        How the memory was run. `budget` is words: ``full``, ``threshold``, ``tokens:64``,
        ``fraction:0.25``, ``match:namm``.
    sample, family, seed
        Which sample; policies are compared on equal `sample`.
    value, metric, details
        The score; `value` is None if the sample failed, and then `error` says why.
    answer
        The model's answer text, or for control a short account of the episode.
    memory
        None only where the sample failed before anything ran.
    kept_by_role
        Fraction of the tokens of each role kind still cached at the end, mean over layers and
        heads.
    kept_by_index
        For a kind with more than one index (frames, timesteps), the same for each index, in order.
    seconds, first_token_seconds, token_seconds
        Wall time of the whole sample, to the first token, and for each later token.
    error
        Empty, or one line on what went wrong with this sample.
    provenance
        Provenance of the run.
    """

    experiment: str
    adapter: str
    model: str
    task: str
    dataset: str
    policy: str
    budget: str
    storage: str
    protocol: str
    interval: int
    sample: str
    family: str
    seed: int
    value: float | None
    metric: str
    answer: str
    memory: MemoryUse | None
    kept_by_role: Mapping[str, float]
    kept_by_index: Mapping[str, Sequence[float]]
    seconds: float
    first_token_seconds: float
    token_seconds: float
    error: str
    provenance: Provenance
    details: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA_VERSION
