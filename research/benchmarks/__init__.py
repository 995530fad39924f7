"""Measurements of record: each script prints its numbers and writes them to research/results."""
