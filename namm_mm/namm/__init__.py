"""The memory network: what attention looks like over time, and which tokens are worth keeping."""

from namm_mm.namm.network import Namm

__all__ = ["Namm"]
