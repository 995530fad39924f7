"""Residuals: what is left of evicted tokens, in a state of constant size for each head."""

from namm_mm.residuals.feature_maps import FeatureMaps
from namm_mm.residuals.state import ResidualState

__all__ = ["FeatureMaps", "ResidualState"]
