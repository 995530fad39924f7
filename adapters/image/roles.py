"""What each placeholder of a picture stands for: its picture, and the row and column of a patch.

Placeholders come in the order in which a model lays out its features. Each rule below is that of
one family of models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from namm_mm.records import TokenType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

WHOLE = "image"
"""Kind of a patch of a whole picture."""
TILE = "tile"
"""Kind of a patch of an enlarged part; its row and column count over all parts of the picture."""
OTHER = TokenType("text")
"""What is no patch: a learned newline, a class token."""

_TILE_NAME = re.compile(r"row_(\d+)_col_(\d+)\D*$")


@dataclass(frozen=True)
class Prepared:
    """Pictures and prompt as a processor returned them.

    Attributes
    ----------
    model, processor
        Of transformers.
    tensors
        What the processor returned.
    sizes
        (height, width) of each picture in pixels, before the processor.
    placeholder
        The token that stands for a part of a picture.
    """

    model: Any
    processor: Any
    tensors: Mapping[str, Tensor]
    sizes: Sequence[tuple[int, int]]
    placeholder: int


def grid(kind: str, picture: int, rows: int, columns: int) -> list[TokenType]:
    """Return the roles of `rows` times `columns` patches, row by row."""
    return [
        TokenType(kind, picture, row, column) for row in range(rows) for column in range(columns)
    ]


def of_llava(prepared: Prepared) -> list[TokenType]:
    """Every picture is one grid, after a class token where the model keeps it."""
    height, width = prepared.tensors["pixel_values"].shape[-2:]
    patch = int(prepared.processor.patch_size)
    extra = int(prepared.processor.num_additional_image_tokens)
    if prepared.processor.vision_feature_select_strategy == "default":
        extra -= 1
    found = []
    for picture in range(len(prepared.sizes)):
        found += [OTHER] * extra + grid(WHOLE, picture, height // patch, width // patch)
    return found


def of_llava_next(prepared: Prepared) -> list[TokenType]:
    """Every picture is its whole, and then its tiles with a newline after each row."""
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    config = prepared.model.config
    tiles = [
        image_size_to_num_patches(
            size, config.image_grid_pinpoints, config.vision_config.image_size
        )
        for size in prepared.sizes
    ]
    return _packed(prepared, tiles, vision_feature_select_strategy="full")


def of_onevision(prepared: Prepared) -> list[TokenType]:
    """As LLaVA-NeXT; several pictures have no tiles, and a newline at their end."""
    from transformers.models.llava_onevision.modeling_llava_onevision import (
        image_size_to_num_patches,
    )

    config = prepared.model.config
    tiles = [1] * len(prepared.sizes)
    if len(tiles) == 1:
        points, edge = config.image_grid_pinpoints, config.vision_config.image_size
        tiles = [image_size_to_num_patches(size, points, edge) for size in prepared.sizes]
    return _packed(prepared, tiles, vision_aspect_ratio=prepared.processor.vision_aspect_ratio)


def _packed(prepared: Prepared, tiles: Sequence[int], **rules: Any) -> list[TokenType]:
    """Let the model pack features of one number: 0 for a patch, 1 for a newline."""
    vision = prepared.model.config.vision_config
    side = vision.image_size // vision.patch_size
    packed, _ = prepared.model.model.pack_image_features(
        [torch.zeros(count, side * side, 1) for count in tiles],
        torch.tensor(prepared.sizes),
        image_newline=torch.ones(1),
        **rules,
    )
    found = []
    for picture, marks in enumerate(packed):
        found += grid(WHOLE, picture, side, side)
        found += _rows(marks[side * side :, 0].tolist(), picture)
    return found


def _rows(marks: Sequence[float], picture: int) -> list[TokenType]:
    """Roles of tiles in rows, each of which ends with a newline."""
    found, row, column = [], 0, 0
    for mark in marks:
        if mark:
            found.append(OTHER)
            row, column = row + 1, 0
        else:
            found.append(TokenType(TILE, picture, row, column))
            column += 1
    return found


def of_qwen(prepared: Prepared) -> list[TokenType]:
    """Every picture is one grid of its own size; neighbouring patches are merged."""
    merge = int(prepared.processor.image_processor.merge_size)
    found = []
    for picture, (_, rows, columns) in enumerate(prepared.tensors["image_grid_thw"].tolist()):
        found += grid(WHOLE, picture, rows // merge, columns // merge)
    return found


def of_internvl(prepared: Prepared) -> list[TokenType]:
    """Every picture is its tiles, row by row, and then its whole where there are several tiles."""
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    pixels = prepared.processor.image_processor
    side = round(prepared.processor.image_seq_length**0.5)
    edges = (int(pixels.size["height"]), int(pixels.size["width"]))
    found = []
    for picture, size in enumerate(prepared.sizes):
        columns, rows = get_optimal_tiled_canvas(
            size, edges, int(pixels.min_patches), int(pixels.max_patches)
        )
        if rows * columns > 1:
            found += _tiles(picture, rows, columns, side)
        found += grid(WHOLE, picture, side, side)
    return found


def _tiles(picture: int, rows: int, columns: int, side: int) -> list[TokenType]:
    """Roles of whole tiles, one after the other."""
    places = product(range(rows), range(columns))
    return [one for down, right in places for one in _tile(picture, down, right, side)]


def _tile(picture: int, down: int, right: int, side: int) -> list[TokenType]:
    return [
        TokenType(TILE, picture, down * side + row, right * side + column)
        for row, column in product(range(side), range(side))
    ]


def of_smolvlm(prepared: Prepared) -> list[TokenType]:
    """Every tile follows the name of its row and column; the whole picture comes last."""
    side = round(prepared.processor.image_seq_len**0.5)
    tokenizer = prepared.processor.tokenizer
    between: list[int] = []
    found: list[TokenType] = []
    picture, left = 0, 0
    for token in prepared.tensors["input_ids"][0].tolist():
        if token != prepared.placeholder:
            between.append(token)
            continue
        if not left:
            named = _TILE_NAME.search(tokenizer.decode(between))
            if named:
                found += _tile(picture, int(named[1]) - 1, int(named[2]) - 1, side)
            else:
                found += grid(WHOLE, picture, side, side)
                picture += 1
            left, between = side * side, []
        left -= 1
    return found
