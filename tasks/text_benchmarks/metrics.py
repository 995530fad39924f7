"""Overlap of words: F1 as for SQuAD, and ROUGE-Lsum (Lin, 2004)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_WIDE = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣"  # noqa: RUF001
    "､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏"  # noqa: RUF001
)
_PUNCTUATION = frozenset(string.punctuation)
WIDE_PUNCTUATION = frozenset(string.punctuation + _WIDE)


def english_words(text: str) -> list[str]:
    """Return lower-case words without punctuation and articles."""
    plain = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def characters(text: str) -> list[str]:
    """Return characters in lower case, without white space and punctuation, wide or narrow."""
    return [c for c in "".join(text.split()).lower() if c not in WIDE_PUNCTUATION]


def f1(found: Sequence[str], right: Sequence[str]) -> float:
    """Return the harmonic mean of precision and recall, counting repetitions."""
    shared = sum((Counter(found) & Counter(right)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(found), shared / len(right)
    return 2 * precision * recall / (precision + recall)


def rouge_l_sum(found: str, right: str) -> float:
    """Return the F1 of the union of longest common subsequences over lines, without stemming."""
    lines = [_rouge_words(line) for line in right.split("\n")]
    other = [_rouge_words(line) for line in found.split("\n")]
    wanted = Counter(word for line in lines for word in line)
    offered = Counter(word for line in other for word in line)
    sizes = offered.total(), wanted.total()
    if not all(sizes):
        return 0.0
    hits = 0
    for line in lines:
        shared = sorted(set().union(*(_common(line, candidate) for candidate in other)))
        for word in (line[index] for index in shared):
            if offered[word] > 0 and wanted[word] > 0:
                offered[word] -= 1
                wanted[word] -= 1
                hits += 1
    if not hits:
        return 0.0
    precision, recall = hits / sizes[0], hits / sizes[1]
    return 2 * precision * recall / (precision + recall)


def _rouge_words(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def _common(line: Sequence[str], other: Sequence[str]) -> set[int]:
    """Return the indices in `line` of one longest common subsequence with `other`."""
    table = [[0] * (len(other) + 1) for _ in range(len(line) + 1)]
    for i, word in enumerate(line, start=1):
        for j, candidate in enumerate(other, start=1):
            same = word == candidate
            table[i][j] = table[i - 1][j - 1] + 1 if same else max(table[i - 1][j], table[i][j - 1])
    found = set()
    i, j = len(line), len(other)
    while i and j:
        if line[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            found.add(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found
