"""Questions about long real text: pass keys, look-ups, passages, cloze, code completion."""

from namm_mm.tasks.long_text.task import DEFAULT, FAMILIES, LongTextTask

__all__ = ["DEFAULT", "FAMILIES", "LongTextTask"]
