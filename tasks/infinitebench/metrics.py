"""InfiniteBench's rules of judging a reply (Zhang et al., 2024, arXiv:2402.13718, appendix)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from namm_mm.tasks.text_benchmarks.metrics import characters, english_words, f1, rouge_l_sum

_MARKS = ("\n", ":", '"', "'", ".", ",", "?", "!", "{", "}")


def _spaced(text: str, marks: Sequence[str]) -> str:
    for mark in marks:
        text = text.replace(mark, " ")
    return text


def first_number(reply: str, right: Any) -> float:
    """Return 1 if the first run of digits is right, else 0 (passkey, number_string)."""
    found = re.search(r"\d+", reply)
    return float(found is not None and found[0] == _one(right))


def word_is_there(reply: str, right: Any) -> float:
    """Return 1 if the right value is one of the reply's words, else 0 (kv_retrieval)."""
    return float(_one(right) in _spaced(reply, _MARKS).split())


def name_is_there(reply: str, right: Any) -> float:
    """Return 1 if the right name, in capitals, is in the reply, else 0 (longdialogue_qa_eng)."""
    return float(_one(right) in _spaced(reply, _MARKS).upper().split())


def last_number(reply: str, right: Any) -> float:
    """Return 1 if the last word is the right integer, else 0 (code_run)."""
    words = _spaced(reply, ("\n", ".", "`", "'", '"', ":")).split()
    try:
        return float(bool(words) and int(words[-1]) == int(_one(right)))
    except ValueError:
        return 0.0


def found_number(reply: str, right: Any) -> float:
    """Return 1 if the first number equals the right one, else 0 (math_find).

    The authors' code fails where an integer is wanted and a decimal is found; here that is wrong.
    """
    found = re.search(r"\d+\.\d+|\d+", reply)
    return float(found is not None and float(found[0]) == float(_one(right)))


def right_prefix(reply: str, right: Sequence[int]) -> float:
    """Return the part of the right values that come first and in order (math_calc)."""
    found = [int(number) for number in re.findall(r"\d+", reply)]
    count = 0
    for value, wanted in zip(found, right, strict=False):
        if value != wanted:
            break
        count += 1
    return count / len(right)


def chosen_function(reply: str, right: Sequence[str]) -> float:
    """Return 1 if the reply starts with the right letter, or names letter or function (code_debug).

    `right` is the function's name and its letter.
    """
    name, letter = right
    if reply[:2] in (f"{letter}.", f"{letter}:"):
        return 1.0
    marks = ("\n", "`", "'", '"', "-", "*", "Option", "option")
    return _after(_spaced(reply.strip(), marks), ("answer is:", "is:", "answer:"), (letter, name))


def chosen_letter(reply: str, right: Sequence[str]) -> float:
    """Return 1 if the chosen letter is right: the first one, or the one after an announcement.

    An empty reply is wrong; the authors' code fails on it. `right` holds the letter.
    """
    if reply[:1] and reply[0] in "ABCD":
        return float(reply[0] in right)
    text = _spaced(reply, ("\n", '"', "'", ".", ",", "?", "!", "{", "}"))
    prefixes = ("answer is:", "answer:", "answer is", "option is")
    if any(prefix in _single(text) for prefix in prefixes):
        return _after(text, prefixes, right)
    return float(next((word in right for word in text.split() if word in "ABCD"), False))


def english_f1(reply: str, right: Any) -> float:
    """Return the best F1 of words over the references (longbook_qa_eng)."""
    return max(f1(english_words(reply), english_words(one)) for one in _all(right))


def chinese_f1(reply: str, right: Any) -> float:
    """Return the best F1 of characters over the references (longbook_qa_chn)."""
    return max(f1(characters(reply), characters(one)) for one in _all(right))


def summary(reply: str, right: Any) -> float:
    """Return ROUGE-Lsum against the reference, the best of several (longbook_sum_eng)."""
    return max(rouge_l_sum(reply, one) for one in _all(right))


def _single(text: str) -> str:
    return re.sub(" +", " ", text)


def _after(text: str, prefixes: Sequence[str], right: Sequence[str]) -> float:
    """Whether something right follows the first prefix that is there."""
    text = _single(text)
    for prefix in prefixes:
        at = text.find(prefix)
        if at >= 0:
            rest = text[at + len(prefix) + 1 :]
            return float(any(rest.startswith(one) for one in right))
    return 0.0


def _one(right: Any) -> str:
    return str(right[0] if isinstance(right, list | tuple) else right)


def _all(right: Any) -> list[str]:
    return [str(one) for one in right] if isinstance(right, list | tuple) else [str(right)]
