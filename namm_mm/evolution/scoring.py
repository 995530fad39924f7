"""What candidates do to a model's answers: one unit of work is one prompt with all candidates.

Candidates of a generation run together, as rows of one batch: see
:mod:`namm_mm.evolution.together`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from namm_mm.evolution import together
from namm_mm.evolution.population import Population
from namm_mm.evolution.prompts import Prompt
from namm_mm.execution.base import Result
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies.base import Selection
from namm_mm.policies.namm import NammPolicy
from namm_mm.records import Answer

if TYPE_CHECKING:
    from namm_mm.records import Inputs
    from namm_mm.tasks.base import AnsweringTask


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One prompt for some candidates, or with the full cache.

    Attributes
    ----------
    key
        Hash of all that the result depends on.
    vectors
        (candidate, parameter) float32; None asks for the full cache.
    """

    key: str
    prompt: Prompt
    vectors: Tensor | None = None


class Scorer(Protocol):
    """Does evaluations. A result holds ``values`` (candidate) and ``kept`` (candidate, layer)."""

    def unit(self, prompt: Prompt, vectors: Tensor | None = None) -> Evaluation:
        """Make the unit of work of a prompt."""
        ...

    def __call__(self, unit: Evaluation) -> Result:
        """Do it.

        ``kept`` are the parts of the tokens that are cached at the end; the result also holds
        ``tokens``, over all candidates, and ``seconds``.
        """
        ...


@dataclass(frozen=True)
class Conditions:
    """How candidates are run.

    Attributes
    ----------
    namm
        What they share: statistics, spectrogram, interval.
    selection
        The rule that turns scores into kept tokens.
    storage
        ``shared`` or ``per_head``.
    """

    namm: Namm
    selection: Selection
    storage: str = "shared"

    def describe(self) -> Mapping[str, Any]:
        """Plain values, for a key."""
        namm = self.namm
        found = {
            "selection": self.selection.describe(),
            "storage": self.storage,
            "scorer": namm.scorer,
            "spectrogram": [namm.n_fft, namm.hop, namm.gamma, namm.interval],
            "statistics": digest(torch.stack([namm.mean, namm.variance])),
        }
        return {**found, "relative": True} if namm.relative else found


class _Keyed:
    kind: str

    def __init__(self, adapter: Any, conditions: Conditions) -> None:
        self.adapter = adapter
        self.conditions = conditions
        weights = next(adapter.backbone.parameters())
        self._model = {
            "kind": self.kind,
            "model": adapter.model_name,
            "dtype": str(weights.dtype),
            "device": weights.device.type,
        }

    def unit(self, prompt: Prompt, vectors: Tensor | None = None) -> Evaluation:
        """See :class:`Scorer`."""
        content: dict[str, Any] = {**self._model, "prompt": prompt.digest}
        if vectors is not None:
            content |= {**self.conditions.describe(), "vectors": digest(vectors)}
        text = json.dumps(content, sort_keys=True)
        return Evaluation(hashlib.sha256(text.encode()).hexdigest()[:32], prompt, vectors)


class Likelihood(_Keyed):
    """Log-probability of the right answer, teacher-forced: a mean over its tokens, in nats.

    Smoother than a score, and all it takes is the prompt. Needs a causal language model.

    Parameters
    ----------
    adapter
        A loaded text adapter.
    conditions
        How candidates are run.
    """

    kind = "likelihood"

    def __call__(self, unit: Evaluation) -> Result:
        """See :class:`Scorer`."""
        model, prompt = self.adapter.backbone, unit.prompt
        asked = prompt.inputs.tensors["input_ids"]
        answer = torch.tensor([prompt.answer], device=asked.device)
        tokens = torch.cat([asked, answer[:, :-1]], dim=1)
        kept: list[list[float]] = []
        start = time.perf_counter()
        with torch.no_grad():
            if unit.vectors is None:
                rows = 1
                logits = model(
                    input_ids=tokens, use_cache=False, logits_to_keep=answer.shape[1]
                ).logits
            else:
                rows = len(unit.vectors)
                logits, kept = self._evicting(tokens, answer.shape[1], unit.vectors)
            found = logits.float().log_softmax(-1)
            values = found.gather(2, answer[..., None].expand(rows, -1, -1))[..., 0].mean(1)
        return {
            "values": values.tolist(),
            "kept": kept,
            "tokens": rows * tokens.shape[1],
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _evicting(
        self, tokens: Tensor, answers: int, vectors: Tensor
    ) -> tuple[Tensor, list[list[float]]]:
        """Logits (candidate, answer, vocabulary), and the parts kept."""
        namm, rows = self.conditions.namm, len(vectors)
        policy = Population(namm, vectors.to(tokens.device), self.conditions.selection)
        model, storage = self.adapter.backbone, self.conditions.storage
        with attach(model, policy, interval=namm.interval, storage=storage) as held:
            logits = together.prefill(model, held, tokens, rows, answers)
            kept = [kept_parts(held.usage(row)) for row in range(rows)]
        return logits, kept


class TaskScore(_Keyed):
    """The task's own score of the adapter's answer, as published.

    Candidates generate in one batch; where the adapter answers in another way, one answers after
    the other.

    Parameters
    ----------
    adapter
        Loaded; any that answers.
    conditions
        How candidates are run.
    task
        Scores the answers.
    """

    kind = "score"

    def __init__(self, adapter: Any, conditions: Conditions, task: AnsweringTask) -> None:
        super().__init__(adapter, conditions)
        self.task = task
        self._model["answer_by"] = str(
            getattr(adapter, "answering", getattr(adapter, "answer_by", ""))
        )

    def __call__(self, unit: Evaluation) -> Result:
        """See :class:`Scorer`."""
        start = time.perf_counter()
        if unit.vectors is not None and len(unit.vectors) > 1 and together.generates(self.adapter):
            values, kept, tokens = self._side_by_side(unit.prompt.inputs, unit.vectors)
        else:
            vectors = (None,) if unit.vectors is None else tuple(unit.vectors)
            values, kept, tokens = self._one_by_one(unit.prompt.inputs, vectors)
        seconds = round(time.perf_counter() - start, 3)
        return {"values": values, "kept": kept, "tokens": tokens, "seconds": seconds}

    def _side_by_side(
        self, inputs: Inputs, vectors: Tensor
    ) -> tuple[list[float], list[list[float]], int]:
        namm, rows = self.conditions.namm, len(vectors)
        asked = inputs.tensors["input_ids"]
        policy = Population(namm, vectors.to(asked.device), self.conditions.selection)
        model, storage = self.adapter.backbone, self.conditions.storage
        with (
            torch.no_grad(),
            attach(model, policy, interval=namm.interval, storage=storage) as held,
        ):
            texts, lengths = together.generate(self.adapter, held, asked, inputs.sample, rows)
            kept = [kept_parts(held.usage(row)) for row in range(rows)]
        values = [self.task.score(inputs.sample, Answer(text=text)).value for text in texts]
        return values, kept, sum(lengths)

    def _one_by_one(
        self, inputs: Inputs, vectors: Sequence[Tensor | None]
    ) -> tuple[list[float], list[list[float]], int]:
        conditions = self.conditions
        values, kept, tokens = [], [], 0
        for vector in vectors:
            if vector is None:
                answer = self.adapter.answer(inputs, None)
            else:
                policy = NammPolicy(
                    replace(conditions.namm, parameters=vector.cpu()),
                    selection=conditions.selection,
                )
                with attach(
                    self.adapter.backbone,
                    policy,
                    interval=conditions.namm.interval,
                    storage=conditions.storage,
                ) as held:
                    answer = self.adapter.answer(inputs, held)
                    kept.append(kept_parts(held.usage()))
            values.append(self.task.score(inputs.sample, answer).value)
            tokens += answer.tokens
        return values, kept, tokens


def kept_parts(use: Any) -> list[float]:
    """Part of the tokens that each layer still holds."""
    return [round(kept / use.seen, 5) for kept in use.kept_by_layer]


def digest(tensor: Tensor) -> str:
    """Hash of the numbers of a tensor."""
    content: Sequence[Any] = tensor.detach().cpu().contiguous().numpy().tobytes()
    return hashlib.sha256(bytes(content)).hexdigest()[:32]
