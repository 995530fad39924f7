"""Rows of a published text benchmark, from a local folder, the hub's cache, or the hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks import hub, parquet
from namm_mm.tasks.base import Download
from namm_mm.tasks.hub import HUB
from namm_mm.tasks.text_files import json_lines, read_text


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
        """Return what a plan shows of its downloads."""
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
    """Return the file of a subset.

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


def read_rows(path: Path, fields: Sequence[str]) -> list[dict[str, Any] | str]:
    """Read ``.jsonl`` or ``.parquet``.

    Returns
    -------
    list
        The rows. In the place of one that is no JSON object, or lacks one of `fields`, a string
        says so, with the file and the line.

    Raises
    ------
    UsageError
        No row is as it should be, or the file is not UTF-8.
    RunError
        pyarrow is needed and not installed, or the file is damaged.
    """
    rows: list[dict[str, Any] | str] = []
    if path.suffix == ".parquet":
        numbered: Iterable[tuple[int, dict[str, Any] | str]] = enumerate(parquet.read(path), 1)
    else:
        numbered = json_lines(read_text(path))
    for number, row in numbered:
        if isinstance(row, str):
            rows.append(f"{path.name}, line {number}: {row}.")
            continue
        missing = [field for field in fields if field not in row]
        wrong = message(
            f"{path.name}, row {number}: no {''.join(map(repr, missing[:1]))}",
            given=sorted(row),
            expected=f"the fields {', '.join(fields)}",
        )
        rows.append(wrong if missing else row)
    if rows and all(isinstance(row, str) for row in rows):
        raise UsageError(rows[0])
    return rows


def _find(published: Published, source: str, subset: str) -> Path | None:
    for pattern in published.files:
        name = pattern.format(subset=subset)
        path = Path(source).expanduser() / name
        found = hub.cached(published.repository, name) if source == HUB else path
        if found is not None and found.is_file():
            return found
    return None
