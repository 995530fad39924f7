"""What differs between two configurations, key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOTHING = "nothing"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two plain mappings: ``stages.first.sigma: 0.1 -> 0.2``.

    Keys of inner mappings are joined by dots, and sorted. A key that one side lacks has the value
    ``nothing`` there.
    """
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    return [
        f"{key}: {before.get(key, NOTHING)!r} -> {after.get(key, NOTHING)!r}"
        for key in sorted({*before, *after})
        if before.get(key, NOTHING) != after.get(key, NOTHING)
    ]


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not prefix):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value
