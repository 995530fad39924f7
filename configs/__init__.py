"""Hydra configuration groups; the command line reads them as ``pkg://namm_mm.configs``."""
