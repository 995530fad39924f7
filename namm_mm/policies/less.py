"""LESS: evicted tokens leave a trace in a state of constant size (arXiv 2402.09398)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from namm_mm.errors import UsageError, message
from namm_mm.policies.over import Over
from namm_mm.residuals.feature_maps import FeatureMaps
from namm_mm.residuals.less import LessKernels, load_kernels

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Less(Over):
    """Any policy below decides which tokens stay; what it evicts goes into the state.

    Layers with a sliding window have no state: a token leaves the window for good.

    Attributes
    ----------
    kernels
        The trained feature maps: a bundled name, a file, or the maps themselves.
    anyway
        Use kernels that were trained under another policy, or for a model of another name.
    """

    sized: ClassVar[bool] = False
    kernels: FeatureMaps | str | Path = "smollm2"
    anyway: bool = False
    maps: FeatureMaps = field(init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its own name and that of the policy below."""
        return f"less({self.below.name})"

    def check(self) -> None:
        """Load the kernels.

        Raises
        ------
        UsageError
            There are none of that name, or they were trained under another policy.
        """
        given = self.kernels
        maps = given if isinstance(given, FeatureMaps) else load_kernels(given)
        object.__setattr__(self, "maps", maps)
        trained = maps.card.get("policy") if isinstance(maps, LessKernels) else None
        if trained not in (None, self.below.name) and not self.anyway:
            raise UsageError(
                message(
                    "the kernels of LESS were trained under another policy",
                    given=self.below.name,
                    expected=str(trained),
                    then="`namm-mm build less` trains kernels. anyway=true uses these.",
                )
            )

    def for_model(self, model: nn.Module) -> Self:
        """Return the policy fitted to `model`, with the feature maps on its device."""
        device = next(model.parameters()).device
        return replace(super().for_model(model), kernels=self.maps.on(device))

    @property
    def made_for(self) -> str:
        """The model that the kernels, or the policy below, were trained for."""
        own = self.maps.card.get("model", "") if isinstance(self.maps, LessKernels) else ""
        return "" if self.anyway else str(own or super().made_for)

    @property
    def residual(self) -> FeatureMaps:
        """The feature maps of the state."""
        return self.maps
