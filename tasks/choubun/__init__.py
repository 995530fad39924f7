"""ChouBun: long Japanese documents, questions and summaries."""

from namm_mm.tasks.choubun.task import ChouBunTask

__all__ = ["ChouBunTask"]
