"""Records of replies to the samples of a benchmark."""

from __future__ import annotations

from typing import Any

from synthetic_records import make_record

from namm_mm.records import Answer, Asked, Record


def record(task: Any, sample: Any, reply: str | None, policy: str = "full") -> Record:
    """The record of a reply; of None, that of a sample that failed."""
    score = task.score(sample, Answer(reply)) if reply is not None else None
    return make_record(
        policy=policy,
        budget="full",
        sample=sample.id,
        value=score.value if score else None,
        metric=score.metric if score else "",
        error="" if score else "no such video",
        asked=Asked(video=sample.video.name),
        details=score.details if score else {},
        memory=None,
    )
