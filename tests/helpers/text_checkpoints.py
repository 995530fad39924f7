"""Tiny random language models over characters, saved as the hub lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from namm_mm.testing.tiny import TINY

CHARACTERS = ["\n", *map(chr, range(32, 127)), "<unk>"]  # 97, the vocabulary of the tiny models


def save(folder: Path, family: str = "llama", **changes: Any) -> str:
    """Save a tiny model of `family` and its tokenizer; return the folder's name."""
    words = {character: index for index, character in enumerate(CHARACTERS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    TINY[family](**changes).save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(folder)
    return str(folder)
