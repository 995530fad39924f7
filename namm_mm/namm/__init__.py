"""The memory network: what attention looks like over time, and which tokens are worth keeping.

::

    from namm_mm.namm import load

    namm = load("general")        # a bundled asset, a .safetensors, or an official .pt
    scores = namm.score(spectrum, age, lengths)
"""

from namm_mm.namm.checkpoint import load
from namm_mm.namm.network import Namm

__all__ = ["Namm", "load"]
