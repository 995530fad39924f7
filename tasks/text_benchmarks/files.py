"""Rows of a published text benchmark, from a local folder, the hub's cache, or the hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks import hub, parquet
from namm_mm.tasks.base import Download
from namm_mm.tasks.hub import HUB


@dataclass(frozen=True)
class Published:
    """A benchmark on the hub.

    Attributes
    ----------
    title
        Its name.
    repository
        Data set on the hub.
    files
        Patterns of the file of a subset, the likeliest first; ``{subset}`` stands for its name.
    bytes
        Size of all files; None where it is not known.
    """

    title: str
    repository: str
    files: tuple[str, ...]
    bytes: int | None = None

    @property
    def command(self) -> str:
        """What fetches it on a machine with a network."""
        return hub.command(self.repository)

    def outlook(self, source: str, subsets: Sequence[str]) -> tuple[Download, ...]:
        """What a plan says of it."""
        from huggingface_hub.constants import HF_HUB_CACHE

        cache = Path(HF_HUB_CACHE) / f"datasets--{self.repository.replace('/', '--')}"
        return (
            Download(
                what=self.repository if source == HUB else source,
                files=f"{self.title}: {', '.join(subsets)}",
                bytes=self.bytes,
                cached=all(_find(self, source, subset) is not None for subset in subsets),
                where=str(cache) if source == HUB else source,
                command=self.command,
            ),
        )


def locate(published: Published, source: str, subset: str, *, download: bool) -> Path:
    """Find the file of a subset.

    Parameters
    ----------
    source
        ``hub``, or a folder in the published layout.
    download
        Fetch what is not in the hub's cache.

    Raises
    ------
    RunError
        It is not here, or cannot be fetched; the message says what to run.
    """
    found = _find(published, source, subset)
    if found is not None:
        return found
    wanted = " or ".join(pattern.format(subset=subset) for pattern in published.files)
    if source != HUB:
        raise RunError(
            message(
                f"{published.title} is not complete in {source}",
                given=subset,
                expected=wanted,
                then=f"Get it with `{published.command} --local-dir {source}`.",
            )
        )
    if not download:
        raise RunError(
            message(
                f"{published.title} is not in the hub cache",
                given=subset,
                expected=wanted,
                then=f"Run `{published.command}`, set task.download=true, or give a folder with "
                "task.source=FOLDER.",
            )
        )
    names = [pattern.format(subset=subset) for pattern in published.files]
    return hub.fetch(published.repository, *names, title=published.title)


def read_rows(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Read ``.jsonl`` or ``.parquet``.

    Raises
    ------
    UsageError
        A line is no JSON object, or a row lacks one of `fields`; file and line are named.
    RunError
        pyarrow is needed and not installed, or the file is damaged.
    """
    rows = parquet.read(path) if path.suffix == ".parquet" else _json_lines(path)
    for number, row in enumerate(rows, start=1):
        missing = [field for field in fields if field not in row]
        if missing:
            raise UsageError(
                message(
                    f"{path.name}, row {number}: no {missing[0]!r}",
                    given=sorted(row),
                    expected=f"the fields {', '.join(fields)}",
                )
            )
    return rows


def _find(published: Published, source: str, subset: str) -> Path | None:
    for pattern in published.files:
        name = pattern.format(subset=subset)
        path = Path(source).expanduser() / name
        found = hub.cached(published.repository, name) if source == HUB else path
        if found is not None and found.is_file():
            return found
    return None


def _json_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path.name}, line {number}: no JSON ({error}).") from error
        if not isinstance(row, dict):
            raise UsageError(
                message(f"{path.name}, line {number}", given=row, expected="a JSON object")
            )
        rows.append(row)
    return rows
