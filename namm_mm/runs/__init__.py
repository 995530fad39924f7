"""The run folder: records, state, provenance, histories and pictures."""
