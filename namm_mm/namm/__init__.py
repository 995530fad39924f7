"""The memory network: what attention looks like over time, and which tokens are worth keeping.

::

    namm = Namm.from_pretrained("general")   # a name, a folder, a file, or OWNER/NAME on the hub
    scores = namm.score(spectrum, age, lengths)
"""

from namm_mm.namm.network import Namm

__all__ = ["Namm"]
