"""Make a report from the records of one run, or of several side by side.

  namm-mm report runs/pocket/20260101-120000
  namm-mm report RUN RUN --output comparison.html
  namm-mm report RUN --kind markdown

Options:
  --output FILE    where to write; by default report.html (or .md) in the last run folder
  --kind KIND      html (one file, works with no network), markdown, or wandb: a W&B report, which
                   needs a login and synced runs
  --merge FOLDER   first join the parts (shard=1/4 ...) of one run into a run folder of its own
  --by-family      break the printed table down by question family or environment
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from namm_mm import report
from namm_mm.console.console import table_console
from namm_mm.console.table import result_table
from namm_mm.errors import UsageError, message
from namm_mm.experiment.merging import merge, tables
from namm_mm.runs import read_records, read_state

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS = {"output": True, "kind": True, "merge": True, "by-family": False}


def main(call: Call) -> int:
    """Run the verb."""
    if not call.words:
        raise UsageError(
            message(
                "no run to report",
                given="nothing",
                expected="one or more run folders",
                then="Run folders are printed at the end of `namm-mm transfer`.",
            )
        )
    folders = [Path(word).expanduser() for word in call.words]
    benchmarks: list[str] = []
    if "merge" in call.options:
        whole = Path(call.options["merge"]).expanduser()
        benchmarks = list(tables(whole, merge(folders, whole)))
        folders = [whole]
    output = call.options.get("output")
    found = [read_records(folder) for folder in folders]
    kind = call.options.get("kind", "html")
    made = (
        report.publish(folders)
        if kind == "wandb"
        else report.render(folders, Path(output).expanduser() if output else None, kind)
    )
    out = table_console()
    records = [record for part, _ in found for record in part]
    notes = dict.fromkeys(note for folder in folders for note in read_state(folder).notes)
    problems = [problem for _, part in found for problem in part]
    by_family = "by-family" in call.options
    out.print(result_table(records, by_family=by_family, notes=[*notes, *problems]))
    for line in benchmarks:
        out.print(line, soft_wrap=True, markup=False, highlight=False)
    out.print(f"report: {made}", soft_wrap=True, markup=False)
    return 0
