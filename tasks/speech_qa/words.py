"""The words that are said, and which of them a split may say.

Common nouns and colours. Each is one token of SmolLM2, so that a small model can be asked by the
likelihood of a word.
"""

from __future__ import annotations

import zlib

_LINES = """
river stone apple table window garden bridge mountain forest castle island ocean desert valley
meadow harbor village market station school church hospital museum library theater kitchen
bedroom bathroom attic ladder hammer needle button pocket jacket shirt shoes glove hat coat
dress boots belt blanket pillow carpet curtain mirror candle lamp clock watch bottle glass plate
spoon knife fork kettle oven stove fridge bucket basket barrel box bag wallet purse coin paper
pencil book letter envelope stamp ticket map flag banner poster picture painting statue guitar
piano violin drum trumpet flute bell whistle horse cow sheep goat pig chicken duck goose rabbit
mouse rat cat dog wolf fox bear lion tiger elephant monkey snake lizard frog turtle fish shark
whale dolphin eagle owl hawk crow pigeon spider bee ant butterfly beetle worm bread butter
cheese milk cream sugar salt pepper honey coffee tea juice water soup salad rice pasta potato
tomato onion garlic carrot bean corn lemon orange banana cherry grape peach plum berry nut
flower rose lily grass leaf tree branch root seed oak pine bamboo sand dust mud clay rock gravel
iron steel copper silver gold diamond pearl crystal rain snow wind storm thunder lightning cloud
sun moon star planet comet rocket engine motor wheel car truck bus train ship boat ferry plane
helicopter bicycle wagon cart doctor nurse teacher student farmer baker butcher soldier sailor
pilot driver lawyer judge king queen prince princess knight ghost giant dwarf dragon angel baby
child boy girl mother father brother sister uncle aunt cousin friend neighbor stranger finger
thumb elbow shoulder knee ankle head face nose mouth tooth tongue ear eye neck chest heart liver
bone blood skin hair circle square triangle arrow cross corner edge center spring summer autumn
winter morning evening midnight red green blue yellow purple brown black white gray pink seven
eleven twenty hundred thousand million camera radio phone computer screen keyboard printer robot
magnet battery cable rope chain lock key door gate fence wall roof tower tunnel cave beach lake
pond stream waterfall volcano glacier cliff canyon jungle prairie swamp ranch orchard vineyard
factory warehouse office prison palace temple tent cabin cottage hotel restaurant bakery
pharmacy bank garage airport highway street alley path trail railway
"""

WORDS = tuple(_LINES.split())

KNOWN = WORDS[:48]
"""The words that every split says, where words are not kept apart."""

PHRASES = (
    "and then we went on",
    "as I told you before",
    "it was a long day",
    "nobody knew what to do",
    "we waited for a while",
    "that is how it began",
    "you can ask anyone here",
    "I will come back to that",
    "let us go on with it",
    "there was not much to see",
    "some people left early",
    "it took us two hours",
    "I do not remember why",
    "they were very kind to us",
    "after that it was quiet",
    "we talked about the old times",
)
"""What a long talk is made of: no word of it is asked about."""

WORD_SETS = ("apart", "known")
"""``apart``: each split has words of its own. ``known``: the same 48 words in every split."""


def split_of(word: str) -> str:
    """Return the split that owns a word: a stable hash, 70 : 15 : 15."""
    bucket = zlib.crc32(f"spoken {word}".encode()) % 20
    return "test" if bucket >= 17 else "validation" if bucket >= 14 else "train"


def words_of(split: str, word_set: str) -> tuple[str, ...]:
    """Return the words that a split may say.

    Parameters
    ----------
    split
        One of :data:`namm_mm.tasks.base.SPLITS`.
    word_set
        One of :data:`WORD_SETS`.
    """
    return KNOWN if word_set == "known" else tuple(w for w in WORDS if split_of(w) == split)
