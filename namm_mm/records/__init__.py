"""The vocabulary that tasks, adapters, memory, tracking and report share.

Nothing here computes. A task makes :class:`Sample` objects, an adapter turns one into
:class:`Inputs` and answers with an :class:`Answer`, the task gives a :class:`Score`, and the
experiment writes one :class:`Record` for each scored sample. Every table, plot and report is made
from records alone, so a record carries all that a number needs: seed, provenance, memory, time.
"""

from namm_mm.records.agent import Agent, ReencodingAgent
from namm_mm.records.answer import Answer, Score
from namm_mm.records.memory_use import PROTOCOLS, STORAGES, MemoryUse, Trace
from namm_mm.records.record import SCHEMA_VERSION, Asked, Media, Provenance, Record
from namm_mm.records.sample import FRAME_MARK, Inputs, Moment, Sample, TokenType

__all__ = [
    "FRAME_MARK",
    "PROTOCOLS",
    "SCHEMA_VERSION",
    "STORAGES",
    "Agent",
    "Answer",
    "Asked",
    "Inputs",
    "Media",
    "MemoryUse",
    "Moment",
    "Provenance",
    "Record",
    "ReencodingAgent",
    "Sample",
    "Score",
    "TokenType",
    "Trace",
]
