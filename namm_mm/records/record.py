"""One scored sample under one policy: :class:`Record`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from namm_mm.records.memory_use import MemoryUse

SCHEMA_VERSION = 2
"""2 has `asked`, `media` and `kept_by_kind`; 1 had them in `details` and as ``kept_by_role``."""


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from; all but the dtype is the same for all records of a run.

    Attributes
    ----------
    run
        Name of the run.
    config_hash
        Hash of the whole configuration.
    commit
        Commit of this package; empty outside a repository.
    versions
        Versions of Python and of the packages that compute.
    device
        Processor or GPU.
    started
        When the run began, UTC, ISO 8601.
    processor
        The machine's processor, also where a GPU computes; empty where an older version wrote it.
    dtype
        Of the model's weights, or of what quantised weights are computed in; empty as above.
    """

    run: str
    config_hash: str
    commit: str
    versions: Mapping[str, str]
    device: str
    started: str
    processor: str = ""
    dtype: str = ""


@dataclass(frozen=True)
class Asked:
    """What was asked of the model; all fields are empty for an environment.

    Attributes
    ----------
    question
        The question, without its context.
    options
        Texts to choose from.
    right_answer
        The answer that the task expects.
    video
        Name of the video's file, without its folder.
    """

    question: str = ""
    options: tuple[str, ...] = ()
    right_answer: str = ""
    video: str = ""


@dataclass(frozen=True)
class Media:
    """Files beside the records that show this sample: paths within the run folder, or empty.

    Attributes
    ----------
    frames
        A picture of the frames that the model saw.
    history
        What was kept of each token over the updates: see :mod:`namm_mm.runs.history`.
    """

    frames: str = ""
    history: str = ""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One scored sample under one policy: the only input of tables, plots and reports.

    Attributes
    ----------
    experiment, adapter, model, task, dataset
        Which cell of the experiment; `dataset` is a fingerprint of the samples.
    policy, budget, storage, protocol, interval
        How the memory was run. `budget` is in words: ``full``, ``threshold``, ``tokens:64``,
        ``fraction:0.25``, ``match:namm``.
    sample, family, seed
        Which sample; policies are compared on equal `sample`.
    value, metric
        The score; `value` is None if the sample failed, and then `error` says why.
    answer
        The model's answer text; for control, the return and the number of steps in words.
    asked
        Question, options, right answer and video of the sample.
    memory
        What the cache held; None where the sample failed.
    kept_by_kind
        For each kind of token, the fraction that was cached at the end, mean over layers and heads.
    kept_by_index
        The same for each index (frame, timestep) of a kind that has more than one, in order.
    seconds, first_token_seconds, token_seconds
        Wall time of the whole sample, to the first token, and for each later token.
    error
        Empty, or one line that says why this sample failed.
    media
        Files that show this sample.
    details
        What the task adds to its score, the adapter to its inputs, and how the model was run (JSON
        values only).
    provenance
        Provenance of the run.
    schema
        Version of this layout.
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
    value: float | None = None
    metric: str = ""
    answer: str = ""
    asked: Asked = Asked()
    memory: MemoryUse | None = None
    kept_by_kind: Mapping[str, float] = field(default_factory=dict)
    kept_by_index: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seconds: float = 0.0
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    error: str = ""
    media: Media = Media()
    details: Mapping[str, Any] = field(default_factory=dict)
    provenance: Provenance
    schema: int = SCHEMA_VERSION
