"""Observations: what the memory tells a policy of the attention, one short file each.

A policy brings the one it needs: ``needs = ColumnSums()``. A third party subclasses
:class:`WeightsObservation`, :class:`ColumnStatistic` or :class:`QueryObservation`.
"""

from namm_mm.observations.base import (
    Cached,
    ColumnStatistic,
    Observation,
    QueryObservation,
    State,
    WeightsObservation,
)
from namm_mm.observations.column_maxima import ColumnMaxima
from namm_mm.observations.column_sums import ColumnSums
from namm_mm.observations.decayed_sums import DecayedSums
from namm_mm.observations.last_queries import LastQueries, attention_weights
from namm_mm.observations.query_moments import QueryMoments

__all__ = [
    "Cached",
    "ColumnMaxima",
    "ColumnStatistic",
    "ColumnSums",
    "DecayedSums",
    "LastQueries",
    "Observation",
    "QueryMoments",
    "QueryObservation",
    "State",
    "WeightsObservation",
    "attention_weights",
]
