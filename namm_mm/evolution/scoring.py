"""Score candidates on one prompt: all candidates of a generation run in one batch.

See :mod:`namm_mm.evolution.batched_candidates`.
"""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from namm_mm.evolution import batched_candidates
from namm_mm.evolution.population import Population
from namm_mm.evolution.prompts import Prompt
from namm_mm.execution.base import Result
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.base import Policy, Selection
from namm_mm.policies.namm import NammPolicy
from namm_mm.policies.probed import Probed
from namm_mm.records import Answer, MemoryUse

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter, LanguageAdapter
    from namm_mm.memory import Memory
    from namm_mm.records import Inputs
    from namm_mm.tasks.base import AnsweringTask

Kept = list[list[float]]
"""Fraction of the tokens that each layer holds at the end, by candidate."""


@dataclass(frozen=True)
class Conditions:
    """How candidates are run.

    Attributes
    ----------
    namm
        What the candidates share: statistics, spectrogram, interval.
    selection
        The rule that turns scores into kept tokens.
    storage
        ``shared`` or ``per_head``.
    probed
        Whether a probe of the model divides the budget among its heads.
    """

    namm: Namm
    selection: Selection
    storage: str = "shared"
    probed: bool = False

    def policy(self, below: Policy) -> Policy:
        """Return the policy of a candidate: `below`, or with head sizes of a probe."""
        return Probed(over=below) if self.probed else below

    def describe(self) -> Mapping[str, Any]:
        """Return plain values for a key."""
        namm = self.namm
        found = {
            "selection": self.selection.describe(),
            "storage": self.storage,
            "scorer": namm.scorer,
            "spectrogram": [namm.n_fft, namm.hop, namm.gamma, namm.interval],
            "statistics": digest(torch.stack([namm.mean, namm.variance])),
        }
        chosen = {"relative": namm.relative, "probed": self.probed}
        return {**found, **{name: True for name, is_set in chosen.items() if is_set}}


class Scorer(ABC):
    """Scores candidates on one prompt.

    Parameters
    ----------
    adapter
        A loaded adapter.
    conditions
        How candidates are run.
    """

    kind: str

    def __init__(self, adapter: AnsweringAdapter, conditions: Conditions) -> None:
        self.adapter = adapter
        self.conditions = conditions
        weights = next(adapter.backbone.parameters())
        self._model = {
            "kind": self.kind,
            "model": adapter.model_name,
            "dtype": str(weights.dtype),
            "device": weights.device.type,
        }

    def key(self, prompt: Prompt, vectors: Tensor | None = None) -> str:
        """Return the hash of everything that the result of :meth:`score` depends on."""
        content: dict[str, Any] = {**self._model, "prompt": prompt.digest}
        if vectors is not None:
            content |= {**self.conditions.describe(), "vectors": digest(vectors)}
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def score(self, prompt: Prompt, vectors: Tensor | None = None) -> Result:
        """Run a prompt.

        Parameters
        ----------
        vectors
            (candidate, parameter) float32; None runs the full cache.

        Returns
        -------
        Result
            ``values`` (candidate), ``kept`` (candidate, layer): the fraction of the tokens that is
            cached at the end, ``tokens`` over all candidates, and ``seconds``.
        """
        start = time.perf_counter()
        with torch.no_grad():
            values, kept, tokens = self._run(prompt, vectors)
        seconds = round(time.perf_counter() - start, 3)
        return {"values": values, "kept": kept, "tokens": tokens, "seconds": seconds}

    @abstractmethod
    def _run(self, prompt: Prompt, vectors: Tensor | None) -> tuple[list[float], Kept, int]:
        """Return the value and the kept fractions of each candidate, and the tokens of all."""

    def _attached(self, vectors: Tensor, device: torch.device) -> AbstractContextManager[Memory]:
        """Return the memory of all candidates in one batch, as a context manager."""
        namm, selection = self.conditions.namm, self.conditions.selection
        policy = self.conditions.policy(Population(namm, vectors.to(device), budget=selection))
        storage = self.conditions.storage
        return attach(self.adapter.backbone, policy, interval=namm.interval, storage=storage)


class Likelihood(Scorer):
    """Log-probability of the right answer, teacher-forced: the mean over its tokens, in nats.

    It is smoother than a score and needs only one pass over the prompt. The adapter's model is a
    causal language model.
    """

    kind = "likelihood"

    def _run(self, prompt: Prompt, vectors: Tensor | None) -> tuple[list[float], Kept, int]:
        asked = prompt.inputs.tensors["input_ids"]
        answer = torch.tensor([prompt.answer], device=asked.device)
        tokens = torch.cat([asked, answer[:, :-1]], dim=1)
        model, length = self.adapter.backbone, answer.shape[1]
        kept: Kept = []
        if vectors is None:
            rows = 1
            logits = model(input_ids=tokens, use_cache=False, logits_to_keep=length).logits
        else:
            rows = len(vectors)
            with self._attached(vectors, tokens.device) as memory:
                logits = batched_candidates.prefill(model, memory, tokens, rows, length)
                kept = kept_by_row(memory, rows)
        log_probabilities = logits.float().log_softmax(-1)
        chosen = log_probabilities.gather(2, answer[..., None].expand(rows, -1, -1))
        return chosen[..., 0].mean(1).tolist(), kept, rows * tokens.shape[1]


class TaskScore(Scorer):
    """The task's own score of the adapter's answer, as published.

    Candidates decode in one batch where the adapter decodes greedily; otherwise they answer one
    after the other.

    Parameters
    ----------
    adapter
        A loaded adapter that answers.
    conditions
        How candidates are run.
    task
        Scores the answers.
    """

    kind = "score"

    def __init__(
        self, adapter: AnsweringAdapter, conditions: Conditions, task: AnsweringTask
    ) -> None:
        super().__init__(adapter, conditions)
        self.task = task
        self._model["answer_by"] = adapter.answering

    def _run(self, prompt: Prompt, vectors: Tensor | None) -> tuple[list[float], Kept, int]:
        if vectors is None:
            return self._one_by_one(prompt.inputs, (None,))
        if len(vectors) > 1 and batched_candidates.generates(self.adapter):
            return self._batched(self.adapter, prompt.inputs, vectors)
        return self._one_by_one(prompt.inputs, tuple(vectors))

    def _batched(
        self, adapter: LanguageAdapter, inputs: Inputs, vectors: Tensor
    ) -> tuple[list[float], Kept, int]:
        asked, rows = inputs.tensors["input_ids"], len(vectors)
        with self._attached(vectors, asked.device) as memory:
            texts, lengths = batched_candidates.generate(
                adapter, memory, asked, inputs.sample, rows
            )
            kept = kept_by_row(memory, rows)
        values = [self.task.score(inputs.sample, Answer(text=text)).value for text in texts]
        return values, kept, sum(lengths)

    def _one_by_one(
        self, inputs: Inputs, vectors: Sequence[Tensor | None]
    ) -> tuple[list[float], Kept, int]:
        conditions = self.conditions
        values, kept, tokens = [], [], 0
        for vector in vectors:
            if vector is None:
                answer = self.adapter.answer(inputs, None)
            else:
                # Without a card: no threshold was set for a candidate yet.
                candidate = replace(conditions.namm, parameters=vector.cpu(), card={})
                # Candidates that run together are observed in float32, too.
                policy = NammPolicy(candidate, budget=conditions.selection, state="float32")
                with attach(
                    self.adapter.backbone,
                    conditions.policy(policy),
                    interval=candidate.interval,
                    storage=conditions.storage,
                ) as memory:
                    answer = self.adapter.answer(inputs, memory)
                    kept += kept_by_row(memory, 1)
            values.append(self.task.score(inputs.sample, answer).value)
            tokens += answer.tokens
        return values, kept, tokens


def kept_by_row(memory: Memory, rows: int) -> Kept:
    """Return the fraction of the tokens that each layer holds, for each of the first `rows`."""
    return [_kept_by_layer(memory.usage(row)) for row in range(rows)]


def _kept_by_layer(use: MemoryUse) -> list[float]:
    return [round(kept / use.seen, 5) for kept in use.kept_by_layer]


def digest(tensor: Tensor) -> str:
    """Return a hash of the numbers of a tensor."""
    content: Sequence[Any] = tensor.detach().cpu().contiguous().numpy().tobytes()
    return hashlib.sha256(bytes(content)).hexdigest()[:32]
