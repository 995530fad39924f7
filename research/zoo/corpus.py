"""The plain text of a zoo model, in the tokens of its own byte-level tokenizer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from namm_mm.tasks.long_text import sources

Tokens = NDArray[np.int64]

MARKS = 8
"""The first tokens of every vocabulary are marks of the synthetic parts; text never has them."""

ALPHABET = 90
"""Characters of a vocabulary; text is without the others, which are rare."""

CHARACTERS = {"train": 600_000, "validation": 150_000, "test": 150_000}


@lru_cache(maxsize=8)
def text(corpus: str, split: str) -> str:
    """Return running text of one split of ``prose`` or ``code``."""
    documents = sources.prose(split) if corpus == "prose" else sources.code(split)
    joined = "\n".join("\n".join(document.paragraphs) for document in documents)
    return joined[: CHARACTERS[split]]


@lru_cache(maxsize=16)
def tokenizer(corpus: str, vocabulary: int) -> Tokenizer:
    """Return a byte-level BPE tokenizer, trained on the train split of its corpus."""
    found = Tokenizer(BPE())
    found.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[f"<{mark}>" for mark in range(MARKS)],
        limit_alphabet=ALPHABET,
        show_progress=False,
    )
    found.train_from_iterator(text(corpus, "train").split("\n"), trainer)
    return found


@lru_cache(maxsize=16)
def tokens(corpus: str, vocabulary: int, split: str) -> Tokens:
    """Return the text of one split in the tokens of the corpus' own tokenizer."""
    encoded = tokenizer(corpus, vocabulary).encode_batch(text(corpus, split).split("\n"))
    return np.concatenate([np.array(line.ids, dtype=np.int64) for line in encoded])
