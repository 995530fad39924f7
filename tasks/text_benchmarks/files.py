"""Rows of a published text benchmark, from a local folder, the hub's cache, or the hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namm_mm.errors import RunError, UsageError, message
from namm_mm.tasks.base import Download

HUB = "hub"


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
        return f"hf download {self.repository} --repo-type dataset"

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
    return _fetch(published, subset)


def read_rows(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Read ``.jsonl`` or ``.parquet``.

    Raises
    ------
    UsageError
        A line is no JSON object, or a row lacks one of `fields`; file and line are named.
    RunError
        pyarrow is needed and not installed, or the file is damaged.
    """
    rows = _parquet(path) if path.suffix == ".parquet" else _json_lines(path)
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
    from huggingface_hub import try_to_load_from_cache

    for pattern in published.files:
        name = pattern.format(subset=subset)
        if source != HUB:
            path = Path(source).expanduser() / name
            if path.is_file():
                return path
            continue
        cached = try_to_load_from_cache(published.repository, name, repo_type="dataset")
        if isinstance(cached, str):
            return Path(cached)
    return None


def _fetch(published: Published, subset: str) -> Path:
    from huggingface_hub import hf_hub_download

    reason = ""
    for pattern in published.files:
        name = pattern.format(subset=subset)
        try:
            return Path(hf_hub_download(published.repository, name, repo_type="dataset"))
        except Exception as error:  # the hub's client raises errors of several libraries
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    raise RunError(
        message(
            f"cannot get {published.title} from the hub ({reason})",
            given=published.repository,
            expected="a hub that answers",
            then=f"On another machine: `{published.command}`.",
        )
    )


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


def _parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise RunError(
            message(
                "pyarrow is not installed",
                given=path.name,
                expected="a package that reads parquet",
                then="`pip install 'namm-mm[benchmarks]'`.",
            )
        ) from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these
        raise RunError(f"cannot read {path}: it is damaged ({error}).") from error
    return rows
