"""The run folder: its records, state, journal, provenance, histories and pictures.

::

    info = RunInfo("pocket", "transfer", config, provenance.collect(config_hash, "cpu"))
    with LocalTracker(folder, info) as tracker:
        tracker.record(record)
    records, problems = read_records(folder)
"""

from namm_mm.runs.journal import Journal
from namm_mm.runs.jsonl import read_records
from namm_mm.runs.local import LocalTracker
from namm_mm.runs.state import RunState, read_state
from namm_mm.runs.tracker import RunInfo, Status, Tracker, Value

__all__ = [
    "Journal",
    "LocalTracker",
    "RunInfo",
    "RunState",
    "Status",
    "Tracker",
    "Value",
    "read_records",
    "read_state",
]
