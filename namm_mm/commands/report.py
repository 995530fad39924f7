"""Make a report from the records of one run, or of several side by side.

  namm-mm report runs/pocket/20260101-120000
  namm-mm report RUN RUN --output comparison.html
  namm-mm report RUN --kind markdown
  namm-mm report SWEEP                    all runs of a sweep (--multirun)

Options:
  --output FILE    where to write; by default report.html (or .md) in the last folder given
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
from namm_mm.console.table import ResultTable
from namm_mm.errors import UsageError, message
from namm_mm.experiment.merging import merge, tables
from namm_mm.results.compared_runs import told
from namm_mm.results.rows import result_rows
from namm_mm.runs.load import load_runs
from namm_mm.runs.sweep import runs_of

if TYPE_CHECKING:
    from namm_mm.commands.call import Call

OPTIONS = {"output": True, "kind": True, "merge": True, "by-family": False}


def main(call: Call) -> int:
    """Run the verb and return its exit code."""
    if not call.words:
        raise UsageError(
            message(
                "no run to report",
                given="nothing",
                expected="one or more run folders",
                then="Run folders are printed at the end of `namm-mm transfer`.",
            )
        )
    kind = call.options.get("kind", "html")
    if kind != "wandb" and kind not in report.SUFFIXES:
        raise UsageError(
            message(
                "unknown kind of report",
                given=kind,
                expected="a format",
                valid=(*report.SUFFIXES, "wandb"),
            )
        )
    folders = [Path(word).expanduser() for word in call.words]
    benchmarks: list[str] = []
    if "merge" in call.options:
        whole = Path(call.options["merge"]).expanduser()
        benchmarks = list(tables(whole, merge(folders, whole)))
        folders = [whole]
    output = _output(call, folders)
    folders = [run for folder in folders for run in runs_of(folder)]
    runs = load_runs(folders)
    records = [record for run in runs for record in run.records]
    rows = result_rows(records)
    made = (
        report.publish(folders) if kind == "wandb" else report.write(runs, output, kind, rows=rows)
    )
    out = table_console()
    if "by-family" in call.options:
        rows = result_rows(records, by_family=True)
    out.print(ResultTable(rows, told(runs)))
    for line in benchmarks:
        out.print(line, soft_wrap=True, markup=False, highlight=False)
    out.print(f"report: {made}", soft_wrap=True, markup=False)
    return 0


def _output(call: Call, folders: list[Path]) -> Path | None:
    """The file that is asked for; of a sweep it lies in the folder of the sweep."""
    if "output" in call.options:
        return Path(call.options["output"]).expanduser()
    suffix = report.SUFFIXES.get(call.options.get("kind", "html"))
    one_run = runs_of(folders[-1]) == [folders[-1]]
    return None if one_run or suffix is None else folders[-1] / suffix
