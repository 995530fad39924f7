"""Kinds of text tokens.

Prose: words by how often they occur in the source, numbers, punctuation, line breaks, and *answer*,
the tokens that contain what will be asked for. Code: the kinds of Python's own tokenizer.
"""

from __future__ import annotations

import io
import keyword
import re
import tokenize

import numpy as np

from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.records import Sample
from namm_mm.tasks.long_text.families import Haystack
from namm_mm.tasks.long_text.sources import prose
from namm_mm.tasks.long_text.task import CODE

FREQUENT, KNOWN = 100, 1500  # ranks of words in the source


class Kinds:
    """Names the kind of every token of a prompt.

    Parameters
    ----------
    adapter
        A loaded adapter.
    split
        The split whose source gives the frequency of words.
    """

    def __init__(self, adapter: TextAdapter, split: str) -> None:
        self.tokenizer = adapter.tokenizer
        ranked = [
            word
            for word, _ in Haystack([d.paragraphs for d in prose(split)]).frequency.most_common()
        ]
        self.rank = {word: number for number, word in enumerate(ranked)}

    def __call__(self, sample: Sample) -> list[str]:
        """Return one kind for each token of the prompt."""
        apart = "" if sample.context[-1:].isspace() else "\n\n"
        text = (sample.context + apart + sample.question).rstrip()
        spans = self.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        letters = (
            _code_letters(text) if sample.family == CODE else self._prose_letters(sample, text)
        )
        kinds = []
        for start, stop in spans:
            own = zip(letters[start:stop], text[start:stop], strict=True)
            inside = [kind for kind, letter in own if letter != " "]
            blank = "space" if sample.family == CODE else "line break"
            kinds.append(inside[0] if inside else blank)
        return kinds

    def _prose_letters(self, sample: Sample, text: str) -> list[str]:
        """Return the kind of every letter of prose."""
        letters = ["punctuation"] * len(text)
        for match in re.finditer(r"[A-Za-z]+|[0-9]+|\n+", text):
            word = match.group().lower()
            letters[match.start() : match.end()] = [self._kind(word)] * len(word)
        context = len(sample.context)
        for match in re.finditer(re.escape(sample.answer), text):
            if match.end() <= context:
                letters[match.start() : match.end()] = ["answer"] * (match.end() - match.start())
        return letters

    def _kind(self, word: str) -> str:
        if word[0].isdigit():
            return "number"
        if word[0] == "\n":
            return "line break"
        rank = self.rank.get(word, len(self.rank))
        if rank < FREQUENT:
            return "frequent word"
        return "known word" if rank < KNOWN else "rare word"


def _code_letters(text: str) -> list[str]:
    """Return the kind of every letter of Python code."""
    letters = ["space"] * len(text)
    starts = np.cumsum([0, *(len(line) for line in text.splitlines(keepends=True))])
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = {
                tokenize.COMMENT: "comment",
                tokenize.STRING: "string",
                tokenize.NUMBER: "number in code",
                tokenize.OP: "operator",
                tokenize.NAME: "keyword" if keyword.iskeyword(token.string) else "name",
            }.get(token.type)
            if kind is not None:
                start = starts[token.start[0] - 1] + token.start[1]
                stop = starts[token.end[0] - 1] + token.end[1]
                letters[start:stop] = [kind] * (stop - start)
    except (tokenize.TokenError, IndentationError, SyntaxError):
        pass  # an excerpt may end inside of a string
    return letters
