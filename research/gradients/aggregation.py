"""Training examples under eviction: the caches that a NAMM's own decisions lead to.

A network that was fitted to the observations of a full cache sees other caches when it decides:
attention falls on fewer tokens, and on other ones. Fitting it again on those caches, with the known
importance of every token, is imitation by dataset aggregation (Ross et al., arXiv 1011.0686).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from namm_mm.memory import attach
from namm_mm.observations.spectrogram import SpectrogramOf
from namm_mm.policies.base import THRESHOLD, AnyBudget, LayerView, Policy
from namm_mm.policies.namm import NammPolicy
from research.gradients.examples import Example, normalised

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt
    from namm_mm.namm import Namm


@dataclass(frozen=True)
class _Recorder(Policy):
    """A NAMM whose views are recorded, layer after layer, update after update."""

    name: ClassVar[str] = "recorder"
    policy: NammPolicy
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    views: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)

    @property
    def needs(self) -> SpectrogramOf:
        """The observation of the NAMM."""
        return self.policy.needs

    def score(self, view: LayerView) -> Tensor:
        """Return the scores of the NAMM."""
        while len(self.views) <= view.layer:
            self.views.append([])
        spectrum = view.statistics["spectrogram"][0].half().cpu()
        self.views[view.layer].append((spectrum.clone(), view.positions[0].cpu().clone()))
        return self.policy.score(view)


def examples_under_eviction(
    model: Any, prompt: Prompt, namm: Namm, examples: Sequence[Example]
) -> list[Example]:
    """Run a prompt under a NAMM with storage per head; return one example for each update.

    Parameters
    ----------
    model
        A causal language model of transformers.
    examples
        Examples of the same prompt with the full cache and the same interval, from
        :func:`research.gradients.examples.record`: they give the importance. Updates without an
        example are left out.
    """
    recorder = _Recorder(NammPolicy(namm, state="float32"))
    with (
        torch.no_grad(),
        attach(model, recorder, interval=namm.interval, storage="per_head"),
    ):
        model(input_ids=prompt.inputs.tensors["input_ids"], use_cache=True, logits_to_keep=1)
    known = {example.seen: example for example in examples}
    found = []
    for update in zip(*recorder.views, strict=True):
        seen = int(max(positions.max() for _, positions in update)) + 1
        if seen in known:
            found.append(_join(update, known[seen]))
    return found


def _join(layers: Sequence[tuple[Tensor, Tensor]], known: Example) -> Example:
    """Join the heads of all layers, padded to the same number of slots."""
    width = max(positions.shape[-1] for _, positions in layers)
    spectra, tokens = [], []
    for spectrum, positions in layers:
        missing = width - positions.shape[-1]
        spectra.append(functional.pad(spectrum, (0, 0, 0, missing)))
        tokens.append(functional.pad(positions, (0, missing), value=-1))
    positions = torch.cat(tokens)
    importance = known.importance.gather(1, positions.clamp_min(0)) * (positions >= 0)
    return Example(torch.cat(spectra), normalised(importance), positions)
