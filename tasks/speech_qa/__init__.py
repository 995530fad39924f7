"""Questions about speech: spoken by a program, or sound files of the user's own."""

from __future__ import annotations

from namm_mm.tasks.speech_qa.task import SpeechQaTask

__all__ = ["SpeechQaTask"]
