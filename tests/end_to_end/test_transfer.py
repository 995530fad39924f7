"""`namm-mm transfer` on every modality: the table, the records, the report, and bad samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from namm_mm.cli import main
from namm_mm.records import Record
from namm_mm.runs import read_records, read_state
from namm_mm.runs.history import of_record

pytestmark = pytest.mark.slow  # several seconds with what the file sets up


HERE = Path(__file__).parent
COMMAND = ["transfer", "--configs", str(HERE / "configs"), "experiment=tiny"]
POLICIES = ("full", "namm", "recency", "random")


@pytest.fixture(scope="module")
def ran(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run folder of one whole run, and what was printed."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, _captured() as printed:
        patch.chdir(tiny)
        assert main([*COMMAND, f"output={output}"]) == 0
    (folder,) = (output / "tiny").iterdir()
    return folder, printed.getvalue()


def _captured() -> Any:
    import contextlib
    import io

    return contextlib.redirect_stdout(io.StringIO())


@pytest.fixture(scope="module")
def records(ran: tuple[Path, str]) -> list[Record]:
    found, problems = read_records(ran[0])
    assert not problems
    return found


def pick(records: list[Record], **fields: str) -> list[Record]:
    return [r for r in records if all(getattr(r, key) == value for key, value in fields.items())]


def test_every_policy_answers_every_sample_of_every_task(records: list[Record]) -> None:
    counts = {"long_text": 2, "video_qa": 4, "offline_rl": 2}
    for task, count in counts.items():
        for policy in POLICIES:
            found = pick(records, task=task, policy=policy)
            assert len({record.sample for record in found}) == len(found) == count


def test_a_broken_video_is_an_error_of_its_own(records: list[Record]) -> None:
    failed = [record for record in records if record.error]
    assert {record.sample for record in failed} == {"cut.mp4"}
    assert {record.policy for record in failed} == set(POLICIES)
    for record in failed:
        assert record.value is None
        assert "cut.mp4" in record.error
        assert "\n" not in record.error


def test_baselines_hold_what_the_namm_held_on_that_sample(records: list[Record]) -> None:
    held = {r.sample: r.memory for r in pick(records, policy="namm") if r.memory}
    smaller = 0
    for record in records:
        if record.budget == "match:namm" and record.memory:
            matched = held[record.sample]
            if record.task != "offline_rl":  # there, episodes under other policies end elsewhere
                assert record.memory.kept_by_layer == matched.kept_by_layer
            smaller += matched.tokens_final < matched.seen
    assert smaller, "the NAMM kept everything: nothing was compared"


def test_records_tell_what_was_kept_of_what(records: list[Record]) -> None:
    for record in records:
        if record.error:
            continue
        kinds = {"long_text": {"text"}, "offline_rl": {"return", "state", "action"}}
        expected = kinds.get(record.task, {"text", "frame"})
        assert set(record.kept_by_kind) == expected
        assert all(0.0 <= part <= 1.0 for part in record.kept_by_kind.values())
        if record.policy == "full":
            assert set(record.kept_by_kind.values()) == {1.0}
        if record.task == "video_qa":
            assert len(record.kept_by_index["frame"]) == 6
        assert record.provenance.config_hash
        assert record.seconds > 0


def test_the_run_folder_is_complete(ran: tuple[Path, str]) -> None:
    folder, printed = ran
    state = read_state(folder)
    assert state.status == "ok"
    assert state.notes[0] == "namm: random numbers, for tests"
    assert all("threshold of namm was set for" in note for note in state.notes[1:])
    config = (folder / "config.yaml").read_text()
    assert config.startswith(f"# config hash {state.provenance['config_hash']}")
    assert (folder / "report.html").stat().st_size > 10_000
    assert list((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert (folder / "artifacts/namm/namm.safetensors").is_file()
    assert "random numbers, for tests" in (folder / "artifacts/namm/namm.json").read_text()
    for words in (
        "report:",
        "records:",
        "W&B",
        "1 failed",
        "random numbers, for tests",
        "match:namm",
    ):
        assert words in printed


def test_watched_samples_keep_their_history(ran: tuple[Path, str], records: list[Record]) -> None:
    folder, _ = ran
    for task, form in (("long_text", "text"), ("video_qa", "frame"), ("offline_rl", "state")):
        found = [r for r in pick(records, task=task) if r.media.history]
        assert {r.policy for r in found} == set(POLICIES)
        for record in found:
            history = of_record(record, folder)
            assert history is not None
            assert record.memory is not None
            assert bool(history.pieces) == (task != "offline_rl")
            assert bool(history.rewards) == (task == "offline_rl")
            assert len(history.seen) == record.memory.updates
            assert form in history.kinds
            kept = float(history.kept()[history.kind == history.kinds.index(form)].mean())
            assert kept == pytest.approx(record.kept_by_kind[form], abs=1e-3)
    assert 'data-what="layer"' in (folder / "report.html").read_text()


def test_the_saved_configuration_makes_the_same_settings(ran: tuple[Path, str]) -> None:
    import yaml

    from namm_mm.experiment.reading import from_mapping

    folder, _ = ran
    plain = yaml.safe_load((folder / "config.yaml").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plain["cells"] = {"text": {**plain["cells"]["text"], "adapter": "text"}}
        plain["cells"]["text"]["policies"] = ["full"]
        again = from_mapping(plain)
    assert from_mapping(again.as_mapping()).config_hash == again.config_hash


def test_records_survive_a_crash(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second model cannot be loaded: the first one's records stay, the run is a failed one."""
    monkeypatch.chdir(tiny)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text(json.dumps({"model_type": "llava_next_video"}))
    for name in ("model.safetensors", "tokenizer.json"):  # without them the run does not begin
        (broken / name).write_bytes(b"damaged")
    code = main([*COMMAND, f"output={tmp_path}", f"cells.video.adapter.model={broken}"])
    (folder,) = (tmp_path / "tiny").iterdir()
    found, _ = read_records(folder)
    assert code in (1, 2)
    assert len(found) == 2 * len(POLICIES)
    assert read_state(folder).status == "failed"
    said = capsys.readouterr().err
    assert f"The {len(found)} records made so far are kept: namm-mm report" in said
    assert "Traceback" not in said


def test_an_interrupt_keeps_the_records(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from namm_mm.tasks.long_text import LongTextTask

    scored = LongTextTask.score
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return scored(*arguments)

    monkeypatch.chdir(tiny)
    monkeypatch.setattr(LongTextTask, "score", interrupted)
    assert main([*COMMAND, f"output={tmp_path}", "~cells.video", "~cells.control"]) == 130
    (folder,) = (tmp_path / "tiny").iterdir()
    assert len(read_records(folder)[0]) == 2
    assert read_state(folder).status == "stopped"


def test_a_run_in_which_every_sample_fails_is_a_failed_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny)
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "damaged.mp4").write_bytes(b"no video")
    question = {"video": "damaged.mp4", "question": "What?", "options": ["a", "b"], "answer": "A"}
    (clips / "questions.jsonl").write_text(json.dumps(question) + "\n")
    code = main(
        [
            *COMMAND,
            f"output={tmp_path}",
            "policies=[full]",
            f"cells.video.task.source={clips}",
            "~cells.text",
            "~cells.control",
        ]
    )
    assert code == 1
    assert "video_qa, full (full): all 1 samples failed" in capsys.readouterr().err


def test_a_malformed_questions_file_is_refused_with_its_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny)
    lines = (tiny / "clips" / "questions.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace('"answer": "green"', '"answer": "pink"')
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    words = ["policies=[full]", f"cells.video.task.source={tmp_path}", "~cells.text"]
    assert main([*COMMAND, f"output={tmp_path}", *words]) == 2
    said = capsys.readouterr().err
    assert "questions.jsonl, line 2: wrong answer: got 'pink'" in said


def test_evaluate_runs_one_policy(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny)
    words = "adapter.model=text adapter.dtype=float32 task.words=100 policy=l2 budget=tokens:32"
    assert main(["evaluate", f"output={tmp_path}", "limit=2", "interval=32", *words.split()]) == 0
    (folder,) = (tmp_path / "evaluate").iterdir()
    found, _ = read_records(folder)
    assert {(record.policy, record.budget) for record in found} == {("l2", "tokens:32")}


def test_a_model_of_other_dimensions_is_refused_before_it_plays(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny)
    words = "cells.control.task.environment=Walker2d-v5 policies=[full] ~cells.text ~cells.video"
    assert main([*COMMAND, f"output={tmp_path}", *words.split()]) == 2
    assert "got 'state and action dimension (11, 3)', expected (17, 6)" in capsys.readouterr().err
