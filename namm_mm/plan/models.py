"""What a plan must know of a model: its sizes, for published ones without fetching anything.

Parameters were counted on models built from the published dimensions on torch's ``meta`` device; a
test counts them again.
"""

from __future__ import annotations
