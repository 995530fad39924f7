"""Which adapter answers about which kind of file, and a question about files as a sample."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.adapters.image.adapter import ImageAdapter
from namm_mm.adapters.image.kinds import KINDS as IMAGE_KINDS
from namm_mm.adapters.speech.adapter import SpeechAdapter
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.adapters.video.adapter import LlavaVideoAdapter
from namm_mm.adapters.video.album import AlbumAdapter
from namm_mm.adapters.video.chat import VideoAdapter
from namm_mm.adapters.video.kinds import KINDS as VIDEO_KINDS
from namm_mm.adapters.video.readers import READERS
from namm_mm.errors import UsageError, message
from namm_mm.models.local import local_folder
from namm_mm.records import Sample

if TYPE_CHECKING:
    from namm_mm.adapters.base import AnsweringAdapter


@dataclass(frozen=True)
class FileKind:
    """A kind of file that is asked about.

    Attributes
    ----------
    suffixes
        Of its files, in small letters.
    adapter
        Serves it.
    placed
        Returns the field of a sample that holds the files.
    several
        Whether a question may be about several.
    """

    suffixes: tuple[str, ...]
    adapter: Callable[..., AnsweringAdapter]
    placed: Callable[[tuple[Path, ...]], dict[str, Any]]
    several: bool = False


def _model_type(model: str) -> str:
    """The type of a model that is on this machine; empty where it is not known before loading."""
    folder = local_folder(model)
    plain = {} if folder is None else json.loads((folder / "config.json").read_bytes())
    return str(plain.get("model_type", ""))


def _of_pictures(model: str, **options: Any) -> AnsweringAdapter:
    """The image adapter; for a LLaVA video model the album adapter."""
    model_type = _model_type(model)
    if model_type in VIDEO_KINDS and model_type not in IMAGE_KINDS:
        return AlbumAdapter(model=model, **options)
    return ImageAdapter(model=model, **options)


def _of_videos(model: str, **options: Any) -> AnsweringAdapter:
    """The adapter of LLaVA's video models; for Qwen-VL, InternVL and SmolVLM the video adapter."""
    if _model_type(model) in READERS:
        return VideoAdapter(model=model, **options)
    return LlavaVideoAdapter(model=model, **options)


KINDS = (
    FileKind(
        (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"),
        _of_videos,
        lambda files: {"video": files[0]},
    ),
    FileKind(
        (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".mpo"),
        _of_pictures,
        lambda files: {"images": files},
        several=True,
    ),
    FileKind(
        (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".m4a", ".aac"),
        partial(SpeechAdapter, long_sounds="windows"),
        lambda files: {"sounds": files},
        several=True,
    ),
)
"""Kinds of files by their suffixes; all others are texts."""

TEXT = FileKind((), TextAdapter, lambda files: {"context": "".join(map(_read, files))})

UNREAD = {
    ".heic": "Convert it first, for example with `heif-convert {name} picture.jpg`.",
    ".heif": "Convert it first, for example with `heif-convert {name} picture.jpg`.",
}
"""Files that nothing here reads, and what to do about them."""


def opened(
    model: str, question: str, names: Sequence[str], new_tokens: int
) -> tuple[AnsweringAdapter, Sample]:
    """Return the adapter for the kind of the files, not loaded yet, and the question as a sample.

    Raises
    ------
    UsageError
        A file is missing or of a kind that is not read, or the files do not go together.
    """
    files = tuple(Path(name).expanduser() for name in names)
    for file in files:
        if not file.is_file():
            expected = "a text, picture, video or sound"
            raise UsageError(message("no such file", given=str(file), expected=expected))
        if file.suffix.lower() in UNREAD:
            raise UsageError(
                message(
                    "a picture that PIL does not read",
                    given=file.name,
                    expected="PNG, JPEG, WebP, TIFF, BMP or GIF",
                    then=UNREAD[file.suffix.lower()].format(name=file.name),
                )
            )
    kinds = [_kind_of(file) for file in files]
    if len(set(kinds)) > 1 or (len(files) > 1 and not kinds[0].several):
        raise UsageError(
            message(
                "the files do not go together in one question",
                given=", ".join(file.name for file in files),
                expected="one file, or several pictures, or several sounds",
            )
        )
    kind = kinds[0] if kinds else TEXT
    adapter = kind.adapter(model=model, answer_by="generate", max_new_tokens=new_tokens)
    held = kind.placed(files) if files else {}
    return adapter, Sample("ask", "ask", question=question, **held)


def _kind_of(file: Path) -> FileKind:
    suffix = file.suffix.lower()
    return next((kind for kind in KINDS if suffix in kind.suffixes), TEXT)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            message(
                f"the file is no text in UTF-8 (byte {error.start})",
                given=file.name,
                expected="UTF-8",
                then=f"Convert it: iconv -f latin1 -t utf-8 {file.name} > new.txt",
            )
        ) from error
