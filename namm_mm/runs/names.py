"""Names of files: readable, and never the same for two samples."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

LENGTH = 120
"""Characters that are kept of a long name; file systems take 255 bytes."""


def file_name(cell: str, sample: str, *method: str) -> str:
    """Return a file name, without its suffix, that tells these parts from all others.

    Parameters
    ----------
    cell, sample
        Which cell of an experiment and which sample.
    method
        How it was run: policy, budget, interval, seed.

    Returns
    -------
    str
        The parts, joined by hyphens. Where that could be the name of other parts too, a hash of
        them follows: a sample may hold any character, and a name of a cell may hold a hyphen.
    """
    parts = [cell, sample, *method]
    readable = "-".join(re.sub(r"[^A-Za-z0-9.-]+", "_", part) for part in parts)
    plain = re.fullmatch(r"[A-Za-z0-9._-]+", sample) and all(
        re.fullmatch(r"[A-Za-z0-9._]+(:[A-Za-z0-9._]+)?", part) for part in (cell, *method)
    )
    if plain and len(readable) <= LENGTH:
        return readable
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    return f"{readable[:LENGTH]}~{digest}"


def words_name(words: Iterable[str]) -> str:
    """Return a folder's name for the words ``KEY=VALUE`` of a run: ``policy-h2o_seed-0``.

    It can stand on a command line without quotes. Where other words could have that name too, a
    hash of them follows.
    """
    given = list(words)
    readable = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-") for word in given)
    if len(readable) <= LENGTH and all(re.fullmatch(r"[A-Za-z.]+=[\w.]+", w) for w in given):
        return readable
    digest = hashlib.sha256(json.dumps(given).encode()).hexdigest()[:8]
    return f"{readable[:LENGTH]}-{digest}"
