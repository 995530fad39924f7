"""DINOv2-small out of a package's ONNX file: the graph's tensors under their names in a model.

The file holds a whole ``Dinov2Model`` with a small decoder behind it, which is left. Most tensors
keep their names under ``backbone.``; matrices that the export folded into products are found by the
names of those products, and are stored transposed there; the positions were cut in two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from namm_mm.errors import RunError, message

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HEADS, PATCH, IMAGE = 384, 6, 14, 518
_INSIDE = "backbone."
_POSITIONS = ("onnx::Concat_1957", "onnx::Reshape_1962")


def write(file: Path, folder: Path) -> None:
    """Save the model of an ONNX `file` in hub layout.

    Raises
    ------
    RunError
        The package that reads ONNX is missing, or the graph does not give every tensor.
    """
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=WIDTH, num_attention_heads=HEADS, patch_size=PATCH, image_size=IMAGE
    )
    config.architectures = ["Dinov2Model"]
    config.save_pretrained(folder)
    save_file(read(file), folder / "model.safetensors", metadata={"format": "pt"})
    # Only from_pretrained knows the names that attention had when the file was made.
    loader: Any = Dinov2Model
    model, info = loader.from_pretrained(folder, output_loading_info=True)
    wrong = [*info["missing_keys"], *info["unexpected_keys"]]
    if wrong:
        raise RunError(
            message(
                f"{file} is not a whole DINOv2",
                given=f"{len(wrong)} tensors missing or unknown, such as {sorted(wrong)[0]}",
                expected="every tensor of a Dinov2Model",
            )
        )
    model.save_pretrained(folder)


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of the graph, under the names that they have in a ``Dinov2Model``."""
    import torch

    try:
        import onnx
    except ModuleNotFoundError as error:
        raise RunError(
            message(
                "the package that reads ONNX is not installed",
                given="onnx",
                expected="the extra vision",
                then="Run `pip install 'namm-mm[vision]'`.",
            )
        ) from error
    graph = onnx.load(file).graph
    held = {
        tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    found = {
        name.removeprefix(_INSIDE): tensor
        for name, tensor in held.items()
        if name.startswith(_INSIDE)
    }
    for node in graph.node:
        path = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
        matrix = next((held[name] for name in node.input if name.startswith("onnx::MatMul")), None)
        if node.op_type == "MatMul" and node.name.startswith("/backbone/") and matrix is not None:
            found[f"{path}.weight"] = matrix.T.contiguous()
    found["embeddings.position_embeddings"] = torch.cat([held[name] for name in _POSITIONS], dim=1)
    found["embeddings.mask_token"] = torch.zeros(1, WIDTH)
    return found
