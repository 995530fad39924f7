"""Where the files of a published video benchmark are: a folder, or what the hub's client fetched.

Videos are published in archives. They are unpacked once, each archive marked when it is done, so
that a killed unpacking goes on with the next one.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from namm_mm.errors import RunError, UsageError, message
from namm_mm.models.cache import cache_root
from namm_mm.tasks import hub
from namm_mm.tasks.hub import HUB
from namm_mm.tasks.text_files import is_there


@dataclass(frozen=True)
class Published:
    """How one benchmark is published.

    Attributes
    ----------
    repository
        Data set on the hub.
    annotations
        Patterns of the file with the questions, the first that is found counts.
    folder
        Where lmms-eval unpacks it, within ``HF_HOME``.
    gated
        Whether the hub asks to accept a licence first.
    """

    repository: str
    annotations: tuple[str, ...]
    folder: str
    gated: bool = False

    @property
    def unpacked(self) -> Path:
        """Where we unpack its archives."""
        return cache_root() / "benchmarks" / self.repository.partition("/")[2]

    @property
    def command(self) -> str:
        """What fetches it on a machine with a network."""
        return f"hf download --repo-type dataset {self.repository}"


def locate(published: Published, source: str, *, download: bool) -> tuple[Path, tuple[Path, ...]]:
    """Return the annotations, and the folders in which files may be.

    Parameters
    ----------
    source
        ``hub``, or a folder in the published layout.
    download
        Fetch what is not here.

    Raises
    ------
    UsageError
        The given folder has no annotations.
    RunError
        Nothing is on this machine, or it cannot be fetched.
    """
    if source != HUB:
        folder = Path(source).expanduser()
        found = _annotations(published, [folder])
        if found is None:
            raise UsageError(
                message(
                    f"no questions of {published.repository}",
                    given=source,
                    expected=f"a folder that holds {' or '.join(published.annotations)}",
                    then=f"`{published.command} --local-dir {source}` fetches it.",
                )
            )
        return found, (folder,)
    roots = _roots(published)
    found = _annotations(published, roots)
    if found is None and download:
        roots = [_fetch(published), *roots]
        found = _annotations(published, roots)
    if found is None:
        licence = "accept its licence on the hub and `hf auth login`, then " * published.gated
        raise RunError(
            message(
                f"the benchmark {published.repository} is not on this machine",
                given="source=hub",
                expected=f"{' or '.join(published.annotations)} in the hub cache, in "
                f"{_hf_home() / published.folder} (as lmms-eval leaves it) or in "
                f"{published.unpacked}; its videos take tens to hundreds of GB",
                then=f"To get it: {licence}`{published.command}`, or task.download=true; or give a "
                "folder in the published layout: task.source=FOLDER.",
            )
        )
    others = [root for root in roots if root != published.unpacked]
    if not any(next(root.glob("**/*.mp4"), None) for root in others):
        unpack(others, published.unpacked)
    return found, tuple(dict.fromkeys(roots))


def questions_file(published: Published, source: str) -> Path | None:
    """Return the file with the questions; None if it is not on this machine."""
    roots = _roots(published) if source == HUB else [Path(source).expanduser()]
    return _annotations(published, roots)


def find_file(roots: Iterable[Path], names: Sequence[str], within: Sequence[str]) -> Path:
    """Return the first of `names` in the folders `within` the roots; the most likely if none is."""
    places = [root / folder / name for name in names for root in roots for folder in within]
    return next((place for place in places if is_there(place)), places[0])


def unpack(roots: Iterable[Path], target: Path) -> None:
    """Unpack every archive that lies in `roots` into `target`, if it was not before."""
    for root in roots:
        for name, parts in _archives(root):
            mark = target / f".{name}.unpacked"
            if mark.exists():
                continue
            try:
                target.mkdir(parents=True, exist_ok=True)
                _unpack(parts, target)
            except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
                raise RunError(
                    message(
                        f"cannot unpack {name} ({error})",
                        given=str(root),
                        expected=f"a whole archive, and room in {target}",
                        then="Fetch the archive again, or set NAMM_MM_CACHE to a larger disk.",
                    )
                ) from error
            mark.touch()


class _Joined(io.RawIOBase):
    """Several files read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files: Iterator[io.BufferedReader] = (part.open("rb") for part in parts)
        self._file = next(self._files, None)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        while self._file is not None:
            count = self._file.readinto(buffer)
            if count:
                return count
            self._file.close()
            self._file = next(self._files, None)
        return 0


def _unpack(parts: Sequence[Path], target: Path) -> None:
    if parts[0].suffix == ".zip":
        with zipfile.ZipFile(parts[0]) as archive:
            archive.extractall(target)
        return
    raw: io.RawIOBase = _Joined(parts)
    stream = io.BufferedReader(raw, 1 << 20)
    with tarfile.open(fileobj=stream, mode="r|*") as tar:
        tar.extractall(target, filter="data")


def _archives(root: Path) -> Iterator[tuple[str, list[Path]]]:
    """Return name and parts of each archive: ``x.zip``, ``x.tar``, or ``x.tar.part.aa`` and on."""
    whole = sorted([*root.glob("*.zip"), *root.glob("*.tar"), *root.glob("*.tar.gz")])
    yield from ((path.name, [path]) for path in whole)
    parts: dict[str, list[Path]] = {}
    for path in sorted(root.glob("*.tar.part.*")):
        parts.setdefault(path.name.partition(".part.")[0], []).append(path)
    yield from parts.items()


def _annotations(published: Published, roots: Sequence[Path]) -> Path | None:
    for root in roots:
        for pattern in published.annotations:
            found = sorted(root.glob(pattern))
            if found:
                return found[0]
    return None


def _roots(published: Published) -> list[Path]:
    snapshot = hub.cached(published.repository)
    found = [published.unpacked, _hf_home() / published.folder]
    return found if snapshot is None else [*found, snapshot]


def _fetch(published: Published) -> Path:
    licence = " Its licence must be accepted on the hub first, then `hf auth login`."
    return hub.fetch(
        published.repository,
        given="task.download=true",
        expected="a hub that answers" + ", and a token" * published.gated,
        then=f"On a machine with a network: `{published.command}`." + licence * published.gated,
    )


def _hf_home() -> Path:
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
