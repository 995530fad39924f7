"""SIGKILL at random moments: no record is lost or doubled, and values are those of a whole run."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from namm_mm.runs import read_records
from namm_mm.runs.keys import key_of

from .base import Attempt, Setting
from .processes import ROOT, lines, started, wait_for

CONFIGS = str(ROOT / "tests" / "end_to_end" / "configs")


@dataclass(frozen=True)
class Victim:
    """A command that is killed, and the file that grows while it works."""

    name: str
    command: tuple[str, ...]
    file: str


VICTIMS = (
    Victim(
        "evaluate",
        ("evaluate", "adapter.model=text", "adapter.dtype=float32", "policy=h2o",
         "budget=tokens:48", "task.words=100", "limit=40", "interval=16"),
        "records.jsonl",
    ),
    Victim(
        "transfer",
        ("transfer", "--configs", CONFIGS, "experiment=tiny", "limit=5"),
        "records.jsonl",
    ),
    Victim("evolve", ("evolve", "--configs", CONFIGS, "evolution=tiny"), "evaluations.jsonl"),
)  # fmt: skip


def run(setting: Setting) -> Iterator[Attempt]:
    """Yield one kill after another, each judged by what is on the disk; then each run, ended."""
    for place, victim in enumerate(VICTIMS):
        kills = len(range(place, setting.count, len(VICTIMS)))
        if kills:
            yield from _torment(victim, kills, setting)


def _torment(victim: Victim, kills: int, setting: Setting) -> Iterator[Attempt]:
    folder, whole = setting.folder / victim.name, setting.folder / f"{victim.name}-whole"
    command = (*victim.command, f"folder={folder}", "wandb=disabled")
    for number in range(kills):
        draw = setting.draw(number)
        before = _values(folder, victim)
        with started(command, setting.tiny) as process:
            if draw.random() < 0.3:
                time.sleep(draw.uniform(0.2, 6.0))  # while it starts
            else:
                alive = wait_for(process, folder / victim.file, lines(folder / victim.file) + 1)
                time.sleep(draw.uniform(0.0, 0.1) if alive else 0.0)
            process.kill()
        yield Attempt(f"{victim.name}, kill {number}", _lost(before, _values(folder, victim)))
    for target in (folder, whole):
        with started((*victim.command, f"folder={target}", "wandb=disabled"), setting.tiny) as last:
            said = last.communicate(timeout=600)[1]
        if last.returncode:
            yield Attempt(f"{victim.name}, to the end", said.strip()[-300:])
            return
    wrong = _differences(_values(folder, victim), _values(whole, victim))
    doubled = [key for key, times in _keys(folder, victim).items() if times > 1]
    wrong += f" {len(doubled)} doubled" if doubled else ""
    yield Attempt(f"{victim.name}, to the end after {kills} kills", wrong.strip())


def _values(folder: Path, victim: Victim) -> dict[str, str]:
    """What is on the disk, whole lines only: key -> what must not change."""
    if not (folder / victim.file).is_file():
        return {}
    if victim.file == "records.jsonl":
        records, _ = read_records(folder)
        return {str(key_of(r)): f"{r.answer} {r.value} {r.memory} {r.error}" for r in records}
    found = {}
    for line in (folder / victim.file).read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the kill cut it off
        result = {name: value for name, value in entry["result"].items() if name != "seconds"}
        found[str(entry["key"])] = json.dumps(result, sort_keys=True)
    return found


def _keys(folder: Path, victim: Victim) -> Counter[str]:
    if victim.file == "records.jsonl":
        return Counter(str(key_of(record)) for record in read_records(folder)[0])
    return Counter()


def _lost(before: dict[str, str], after: dict[str, str]) -> str:
    lost = [key for key in before if key not in after]
    changed = [key for key in before if after.get(key, before[key]) != before[key]]
    return f"{len(lost)} lost, {len(changed)} changed" if lost or changed else ""


def _differences(found: dict[str, str], right: dict[str, str]) -> str:
    missing, more = right.keys() - found.keys(), found.keys() - right.keys()
    other = [key for key in right.keys() & found.keys() if right[key] != found[key]]
    if not (missing or more or other):
        return ""
    return f"{len(missing)} missing, {len(more)} too many, {len(other)} other values"
