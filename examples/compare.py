"""Compare policies at equal memory: in every layer a baseline holds what the NAMM held."""

import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

from namm_mm import attach, policy
from namm_mm.adapters.text.adapter import TextAdapter
from namm_mm.policies import Budget
from namm_mm.tasks.long_text import LongTextTask

adapter = TextAdapter(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m-instruct")
adapter.load()
task = LongTextTask(families=["passkey", "cloze"], words=200)
samples = task.samples("test", limit=int(sys.argv[2]) if len(sys.argv) > 2 else 6, seed=0)
names = ["full", "namm", "h2o", "l2", "recency", "random"]
rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}

for sample in track(samples, "prompts", console=Console(stderr=True)):
    inputs = adapter.prepare(sample)
    trace = None
    for name in names:
        matched = {} if trace is None else {"budget": Budget(trace=trace, matched="match:namm")}
        chosen = policy(name, **matched)
        with attach(adapter.backbone, chosen, interval=64, storage="per_head") as memory:
            score = task.score(sample, adapter.answer(inputs, memory))
        if name == "namm":
            trace = memory.trace().even_heads()  # the same for all heads of a layer
        kept = memory.usage().kept_fraction or 0.0
        rows[name].append((kept, score.value, score.details["log_probability"]))

table = Table("policy", "cache", "right", "log-probability of the answer", title="equal memory")
for name, found in rows.items():
    kept, right, logp = (sum(column) / len(found) for column in zip(*found, strict=True))
    table.add_row(name, f"{kept:.0%}", f"{right:.2f}", f"{logp:.2f}")
Console(width=80).print(table)
