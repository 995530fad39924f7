"""Builders of NAMMs, on text."""
