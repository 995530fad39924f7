"""Code completion over the standard library: a name that was last used far above."""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from namm_mm.tasks.long_text.families import TRIES, Draft, Shape, too_little

CHARACTERS = 6  # that count as one word of code
_NAME = re.compile(r"(?<![\w\"'#])[A-Za-z_]\w{5,}")
FILES = 2  # that may hold a name
_LEAD = 6  # characters before the name that must be the same far above
_BUILT_IN = frozenset((*dir(builtins), *dir(type(builtins))))  # with names as `__init__`


def code(files: Sequence[str], random: Random, shape: Shape) -> Draft:
    """Return the completion of a line of real code at a name.

    The name was used between the parts `low` and `high` of the context, after the same characters
    as now, and never since: the newest part of the context does not hold it, nor a longer name made
    of it. Hardly another file has it, so that knowing Python by heart does not help.
    """
    spread = _spread(tuple(files))
    size = CHARACTERS * shape.words
    fitting = [text for text in files if len(text) > 2 * size]
    for _ in range(TRIES if fitting else 0):
        text = random.choice(fitting)
        start = random.randrange(len(text) - size)
        start = text.find("\n", start) + 1  # of a line
        names = list(_NAME.finditer(text, start + size, start + size + 4000))
        random.shuffle(names)
        for name in names:
            if spread[name[0]] > FILES:
                continue
            found = _ask(text, name, size, shape)
            if found:
                return found
    raise too_little(f"source files of more than {2 * size} characters")


@lru_cache(maxsize=4)
def _spread(files: tuple[str, ...]) -> Counter[str]:
    """Return the number of files that hold each name."""
    return Counter(name for text in files for name in set(_NAME.findall(text)))


def _ask(text: str, name: re.Match[str], size: int, shape: Shape) -> Draft | None:
    """Return a question for `name` if it occurs in the right part before, and nowhere later."""
    word, at = name[0], name.start()
    start = text.find("\n", at - size) + 1
    line = text.rfind("\n", 0, at) + 1
    lead = text[line:at]
    if keyword.iskeyword(word) or word in _BUILT_IN:
        return None
    if not lead.strip() or lead.lstrip().startswith("#"):
        return None
    context = text[start:line]
    uses = [use.start() for use in re.finditer(rf"\b{re.escape(word)}\b", context + lead)]
    same = [use for use in uses if (context + lead)[:use].endswith(lead.lstrip()[-_LEAD:])]
    if not same or uses[-1] > shape.high * size or same[-1] < shape.low * size:
        return None
    if word.strip("_").lower() in (context + lead)[int(shape.high * size) + len(word) :].lower():
        return None
    return Draft(context, lead, word, metadata={"depth": round(same[-1] / len(context), 3)})
