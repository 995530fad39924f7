"""What a NAMM is shown while it forgets: the states that its own decisions lead to.

A network that was fitted to what the full cache shows meets other caches when it decides itself:
attention goes to fewer tokens, and to others. Fitting it again on those caches, with the importance
that is known of every token, is imitation by dataset aggregation (Ross et al., arXiv 1011.0686).
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
from research.gradients.importance import Shown, shares

if TYPE_CHECKING:
    from namm_mm.evolution.prompts import Prompt
    from namm_mm.namm import Namm


@dataclass(frozen=True)
class _Watching(Policy):
    """A NAMM whose views are remembered, layer after layer, update after update."""

    name: ClassVar[str] = "watching"
    policy: NammPolicy
    budget: AnyBudget = field(default=THRESHOLD, kw_only=True)
    views: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list)

    @property
    def needs(self) -> SpectrogramOf:
        """What the NAMM needs."""
        return self.policy.needs

    def score(self, view: LayerView) -> Tensor:
        """Score as the NAMM does."""
        while len(self.views) <= view.layer:
            self.views.append([])
        spectrum = view.statistics["spectrogram"][0].half().cpu()
        self.views[view.layer].append((spectrum.clone(), view.positions[0].cpu().clone()))
        return self.policy.score(view)


def revisit(model: Any, prompt: Prompt, namm: Namm, shown: Sequence[Shown]) -> list[Shown]:
    """Run a prompt under a NAMM, every head with a size of its own; return what it was shown.

    Parameters
    ----------
    model
        A causal language model of transformers.
    shown
        Of the same prompt with the full cache, from :func:`research.gradients.importance.record`,
        with the same interval: importance is taken from there. Other updates are left out.

    Returns
    -------
    list of Shown
        One for each update, with `positions`.
    """
    watching = _Watching(NammPolicy(namm))
    with (
        torch.no_grad(),
        attach(model, watching, interval=namm.interval, storage="per_head"),
    ):
        model(input_ids=prompt.inputs.tensors["input_ids"], use_cache=True, logits_to_keep=1)
    known = {one.seen: one for one in shown}
    found = []
    for update in zip(*watching.views, strict=True):
        seen = int(max(positions.max() for _, positions in update)) + 1
        if seen in known:
            found.append(_join(update, known[seen]))
    return found


def _join(layers: Sequence[tuple[Tensor, Tensor]], known: Shown) -> Shown:
    """All heads of all layers side by side, in slots of one width."""
    width = max(positions.shape[-1] for _, positions in layers)
    spectra, places = [], []
    for spectrum, positions in layers:
        missing = width - positions.shape[-1]
        spectra.append(functional.pad(spectrum, (0, 0, 0, missing)))
        places.append(functional.pad(positions, (0, missing), value=-1))
    positions = torch.cat(places)
    importance = known.importance.gather(1, positions.clamp_min(0)) * (positions >= 0)
    return Shown(torch.cat(spectra), shares(importance), positions)
