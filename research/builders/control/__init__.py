"""Builders of Decision Transformers: behaviour policies, data, training, selection."""
