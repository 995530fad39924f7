"""The W&B report, with W&B's one door to the network replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_records import PROVENANCE, make_records, with_histories

from namm_mm import report
from namm_mm.errors import RunError
from namm_mm.results.result_table import result_tables
from namm_mm.results.rows import result_rows
from namm_mm.runs import RunInfo
from namm_mm.tracking import open_run

interface = pytest.importorskip("wandb_workspaces.reports.v2.interface")

RECORDS = make_records(6)


class Server:
    """Answers what a report asks of W&B, and remembers it."""

    default_entity = "somebody"

    def __init__(self) -> None:
        self._service_api = self
        self.app_url = "https://wandb.example"
        self.saved: dict[str, Any] = {}
        self.created: list[tuple[str, str]] = []

    def execute_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" not in query:
            return {"project": {"internalId": "UHJvamVjdA=="}}
        self.saved = variables
        view = {
            "id": "Vmlldzox",
            "name": variables["name"],
            "displayName": variables["displayName"],
            "description": variables["description"],
            "project": {
                "name": variables["projectName"],
                "entityName": variables["entityName"],
            },
            "spec": variables["spec"],
            "user": {"name": "a", "username": "a", "userInfo": {}},
        }
        return {"upsertView": {"view": view}}

    def projects(self, entity: str) -> list[Any]:
        return []

    def create_project(self, project: str, entity: str) -> None:
        self.created.append((project, entity))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    info = RunInfo("pocket", "transfer", {}, PROVENANCE, notes=("NAMM: provisional",))
    with open_run(tmp_path, info, wandb_mode="disabled") as tracker:
        for record in with_histories(RECORDS, tmp_path, ("s000",)):
            tracker.record(record)
    return tmp_path


def test_the_report_holds_the_same_numbers_and_live_panels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    monkeypatch.setattr(interface, "_get_api", lambda: server)
    monkeypatch.setattr(interface.wandb, "termlog", lambda *_: None)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    address = report.publish([folder])
    assert address.startswith("https://wandb.example/somebody/namm-mm/reports/")
    assert (server.saved["entityName"], server.saved["projectName"]) == ("somebody", "namm-mm")
    blocks = json.loads(server.saved["spec"])["blocks"]
    text = json.dumps(blocks)
    assert "NAMM: provisional" in text
    for row in result_rows(RECORDS):
        assert row.score is not None
        assert f"{row.score.mean:.{1 if row.metric == 'normalized_score' else 3}f}" in text
    *headlines, grid = [block for block in blocks if block["type"] == "panel-grid"]
    (runs,) = grid["metadata"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == [PROVENANCE.run]
    panels = grid["metadata"]["panelBankSectionConfig"]["panels"]
    patterns = [panel["config"].get("metricRegex") for panel in panels]
    assert "video_qa/accuracy/.*" in patterns
    assert "cache/kept_fraction/offline_rl/.*" in patterns
    assert "transfer_matrix" in json.dumps(panels)
    for key in ("films/video_qa", "films/offline_rl"):
        assert f'"{key}"' in json.dumps(panels)
    # It leads with what HTML leads with: the table of the first task, then its figure.
    led = [block for block in blocks if block["type"] != "paragraph"]
    assert [block["type"] for block in led[:3]] == ["heading", "markdown-block", "panel-grid"]
    first, *_ = next(iter(result_tables(result_rows(RECORDS)).values())).rows[0]
    assert first.text in json.dumps(led[1])
    assert len(headlines) == 3
    assert '"figures/long_text/Accuracy_against_bytes"' in json.dumps(headlines[0])
    assert "What was kept, update by update" in text


def test_without_a_login_the_error_says_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise Exception("not logged in to W&B")

    monkeypatch.setattr(interface, "_get_api", refuse)
    with pytest.raises(RunError, match=r"not logged in.*wandb login.*wandb sync.*report RUN"):
        report.publish([folder])
