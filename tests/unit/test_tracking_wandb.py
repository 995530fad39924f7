"""Log everything to an offline W&B run, and read the file back record by record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_records import PROVENANCE, make_history, make_records, with_histories
from wandb_reader import OfflineRun, messages, read_finished_run

from namm_mm.errors import RunError
from namm_mm.runs import RunInfo
from namm_mm.tracking import open_run, wandb_results

SAMPLES = 5
RECORDS = make_records(SAMPLES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    weights = tmp_path_factory.mktemp("weights") / "namm.safetensors"
    weights.write_bytes(b"weights")
    info = RunInfo(
        "pocket",
        "transfer",
        {"adapter": {"name": "text"}, "seed": 3},
        PROVENANCE,
        tags=("adapter:text", "task:long_text", "policy:namm", "zero-shot"),
        notes=("NAMM: provisional",),
    )
    folders = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    records = with_histories(RECORDS, folder, ("s000",))
    before = [os.environ.get(name) for name in folders]
    with open_run(folder, info, wandb_mode="offline") as tracker:
        for record in records:
            tracker.record(record)
        tracker.log({"fitness/best": 0.5, "scores/layer_0": [0.1, 0.2]}, axis="gen", at=7)
        tracker.table("extra", ["a", "b"], [[1, "x"], [None, 2.5]])
        tracker.artifact("namm-best", [weights], "model", {"parameters": 4172})
        tracker.finish("ok", {"winner": "full"})
    assert [os.environ.get(name) for name in folders] == before
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> OfflineRun:
    (wandb_folder,) = (folder / "wandb").glob("offline-run-*")
    return read_finished_run(wandb_folder)


def table(folder: Path, run: OfflineRun, name: str) -> tuple[list[str], list[list[object]]]:
    (path,) = [row[f"{name}/path"] for row in run.history if f"{name}/path" in row]
    (file,) = (folder / "wandb").glob(f"offline-run-*/files/{path}")
    data = json.loads(file.read_text())
    return data["columns"], data["data"]


def test_the_file_holds_every_type_of_record_that_a_run_is_made_of(run: OfflineRun) -> None:
    assert run.kinds["run"] == run.kinds["exit"] == 1
    assert run.kinds["history"] == len(run.history)
    for kind in ("summary", "metric", "artifact", "files", "telemetry"):
        assert run.kinds[kind], f"no {kind} record; there are {dict(run.kinds)}"
    media = {value for row in run.history for key, value in row.items() if key.endswith("_type")}
    assert media == {
        "table-file",
        "histogram",
        "images/separated",
        "videos",
        "plotly-file",
    }


def test_the_run_is_named_grouped_and_tagged(run: OfflineRun) -> None:
    assert (run.name, run.project, run.group) == (PROVENANCE.run, "namm-mm", "pocket")
    assert run.job_type == "transfer"
    assert set(run.tags) == {"adapter:text", "task:long_text", "policy:namm", "zero-shot"}
    assert run.config["adapter"] == {"name": "text"}
    assert run.config["seed"] == 3
    assert run.config["provenance"]["commit"] == PROVENANCE.commit
    assert run.kinds["run"] == 1
    assert run.exit_code == 0


def test_every_record_is_a_point_and_axes_are_ours(run: OfflineRun) -> None:
    assert sum("sample" in row and "_type" not in str(row) for row in run.history) == len(RECORDS)
    curve = [
        (row["sample"], row["video_qa/accuracy/pocket-video/namm_threshold"])
        for row in run.history
        if "video_qa/accuracy/pocket-video/namm_threshold" in row
    ]
    values = [r.value or 0.0 for r in RECORDS if r.task == "video_qa" and r.policy == "namm"]
    expected = [(n, pytest.approx(sum(values[:n]) / n)) for n in range(1, SAMPLES + 1)]
    assert curve == expected
    assert run.metrics["video_qa/*"] == "sample"
    assert run.metrics["cache/*"] == "sample"
    assert run.metrics["fitness/*"] == "gen"
    (event,) = [row for row in run.history if "fitness/best" in row]
    assert (event["gen"], event["fitness/best"]) == (7, 0.5)
    assert event["scores/layer_0/_type"] == "histogram"


def test_a_failed_sample_is_counted_and_not_averaged(run: OfflineRun) -> None:
    key = "video_qa/pocket-video/h2o_match_namm"
    assert [row[f"errors/{key}"] for row in run.history if f"errors/{key}" in row] == [1]
    assert run.summary["video_qa/accuracy/pocket-video/h2o_match_namm/errors"] == 1
    assert run.summary["video_qa/accuracy/pocket-video/h2o_match_namm/n"] == SAMPLES - 1


def test_the_transfer_matrix_has_policy_task_budget_and_intervals(
    folder: Path, run: OfflineRun
) -> None:
    columns, rows = table(folder, run, "transfer_matrix")
    assert len(rows) == 3 * 5
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    (h2o,) = [r for r in found if r["task"] == "long_text" and r["policy"] == "h2o"]
    assert h2o["budget"] == "match:namm"
    assert isinstance(h2o["low"], float)
    assert isinstance(h2o["mean"], float)
    assert h2o["low"] < h2o["mean"]
    assert h2o["to_full_low"] is not None
    assert h2o["namm_minus_this_high"] is not None


def test_predictions_and_cache_sizes_are_tables(folder: Path, run: OfflineRun) -> None:
    columns, rows = table(folder, run, "predictions")
    assert len(rows) == len(RECORDS)
    assert rows[0][columns.index("answer")] == RECORDS[0].answer
    (error,) = [row[columns.index("error")] for row in rows if row[columns.index("error")]]
    assert error == "the file clip_3.mp4 ends too early"
    columns, rows = table(folder, run, "cache_by_layer")
    assert len(rows) == 3 * 5 * 4
    histogram = run.summary["cache/size_by_layer/video_qa/pocket-video/namm_threshold/values"]
    sizes = [r.memory for r in RECORDS if (r.task, r.policy) == ("video_qa", "namm")]
    expected = [sum(m.kept_by_layer[i] for m in sizes if m) / SAMPLES for i in range(4)]
    assert histogram == pytest.approx(expected)
    columns, rows = table(folder, run, "kept_by_index")
    assert len(rows) == 5 * (8 + 3 * 20)  # methods, frames, and three kinds of timesteps
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    (kept,) = [
        r["kept_fraction"]
        for r in found
        if (r["policy"], r["kind"], r["index"]) == ("namm", "frame", 4)
    ]
    assert kept == pytest.approx(0.35 + 0.5 * 4 / 8)
    assert table(folder, run, "extra") == (["a", "b"], [[1, "x"], [None, 2.5]])


def test_a_pictured_sample_is_sent_once(folder: Path, run: OfflineRun) -> None:
    (row,) = [row for row in run.history if "frames/video_qa/filenames" in row]
    (name,) = row["frames/video_qa/filenames"]
    assert len(list((folder / "wandb").glob(f"offline-run-*/files/{name}"))) == 1


def test_pictures_of_a_list_have_one_size_and_lose_nothing(tmp_path: Path) -> None:
    sizes = [(8, 4), (5, 9)]
    for at, size in enumerate(sizes):
        Image.new("RGB", size, "white").save(tmp_path / f"{at}.png")
    pictures = wandb_results._of_one_size([tmp_path / "0.png", tmp_path / "1.png"])
    assert [picture.size for picture in pictures] == [(8, 9), (8, 9)]
    assert [int(np.asarray(picture).all(-1).sum()) for picture in pictures] == [8 * 4, 5 * 9]
    assert pictures[1].getpixel((4, 8)) == (255, 255, 255)


def test_what_was_kept_of_a_video_is_sent_as_a_film(folder: Path, run: OfflineRun) -> None:
    import av

    (row,) = [row for row in run.history if "films/video_qa/_type" in row]
    (video,) = row["films/video_qa/videos"]
    assert video["caption"].startswith("s000")
    (file,) = (folder / "wandb").glob(f"offline-run-*/files/{video['path']}")
    with av.open(str(file)) as film:
        pictures = list(film.decode(video=0))
    updates, layers = 3, 3
    assert len(pictures) == updates + 1 + layers
    bright = [picture.to_ndarray(format="gray")[60:, 200:].mean() for picture in pictures]
    assert bright[updates] < bright[0]


def test_scores_are_histograms_by_layer(run: OfflineRun) -> None:
    key = "scores/long_text/smollm2-135m/namm_threshold/layer_02"
    (row,) = [row for row in run.history if f"{key}/values" in row]
    assert sum(row[f"{key}/values"]) == make_history("long_text").scores.shape[1]
    assert (row[f"{key}/bins"][0], row[f"{key}/bins"][-1]) == (-1.0, 1.0)


def test_an_episode_that_cannot_be_rendered_is_a_figure(folder: Path, run: OfflineRun) -> None:
    assert not [row for row in run.history if "films/offline_rl" in str(row)]
    key = "episodes/offline_rl/namm_threshold/path"
    (path,) = [row[key] for row in run.history if key in row]
    (file,) = (folder / "wandb").glob(f"offline-run-*/files/{path}")
    traces = json.loads(file.read_text())["data"]
    assert traces[0]["y"] == ["return", "state", "action"]
    assert traces[1]["y"][-1] == 190.0


def test_the_figures_of_the_report_are_sent(run: OfflineRun) -> None:
    keys = {key for row in run.history for key in row}
    quality = {"long_text": "Accuracy", "video_qa": "Accuracy", "offline_rl": "Normalized_score"}
    for task, metric in quality.items():
        assert f"figures/{task}/{metric}_against_bytes/path" in keys
        assert f"figures/{task}/Cache_size_by_layer/path" in keys


def test_artifacts_are_staged_under_the_run_folder(folder: Path, run: OfflineRun) -> None:
    (artifact,) = [a for a in run.artifacts if a[1] == "model"]
    assert artifact == ("namm-best", "model", {"parameters": 4172}, ("namm.safetensors",))
    staged = (folder / "wandb/data/artifacts/staging").iterdir()
    assert b"weights" in [file.read_bytes() for file in staged]


@pytest.mark.usefixtures("run")
def test_the_reader_checks_sums_and_stops_at_a_cut(folder: Path) -> None:
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    data = file.read_bytes()
    whole = list(messages(data))
    assert list(messages(data[:-3])) == whole[:-1]
    damaged = bytearray(data)
    damaged[200] ^= 1
    with pytest.raises(RunError, match="checksum"):
        list(messages(bytes(damaged)))
    with pytest.raises(RunError, match=":W&B"):
        list(messages(b"something else"))
