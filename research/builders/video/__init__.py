"""Builders of video models."""
