"""What a user reads when something is wrong, word for word, and the exit code.

`cli_errors.txt` is the snapshot. After a wanted change, make it again and read the difference:
``UPDATE_SNAPSHOTS=1 pytest tests/errors``.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from namm_mm.cli import main
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.residuals.less import PARTS, LessKernels

HERE = Path(__file__).parent
SNAPSHOT = HERE / "cli_errors.txt"
TINY = "transfer --configs configs experiment=tiny"
NAMM = f"{TINY} policies=[namm] checkpoint"

CASES = {
    "an unknown verb": "trasnfer",
    "an unknown option": f"{TINY} --shwo",
    "an option without its value": "report RUN --output",
    "a word that is no setting": f"{TINY} limit",
    "a cell to leave out that is not there": f"{TINY} ~cells.vido",
    "an override that cannot be read": f"{TINY} limit=[1",
    "an unknown experiment": "transfer experiment=poket",
    "an experiment that is a cell now": "transfer experiment=paper_rl/hopper_expert",
    "an experiment of record": "transfer experiment=pocket_full",
    "a value that is missing": "evaluate adapter=llava_video task=video_folder",
    "a builder that lacks an option": "build threshold namm=general",
    "an option of a builder without its value": "build threshold out=",
    "an experiment that is nothing": "transfer experiment=null",
    "a checkpoint that is a number": "transfer checkpoint=3",
    "a misspelled group": "transfer exprement=pocket",
    "an option of Hydra": "transfer --config-name=mine",
    "a sweep of nothing": "transfer --multirun limit=1",
    "several values without a sweep": "transfer policy=h2o,snapkv",
    "a part of Hydra's configuration": "transfer --cfg hydra",
    "another part of Hydra's information": "transfer --info searchpath",
    "a sweep of a verb that has none": "report RUN --multirun",
    "a launcher of Hydra": "transfer hydra/launcher=ray",
    "a setting of Hydra": "transfer hydra.run.dir=x",
    "a setting given twice": f"{TINY} limit=3 limit=4",
    "an option without an effect": f"{TINY} --json",
    "a cell that is not there": f"{TINY} cells=[txt]",
    "a setting of a cell that is not chosen": f"{TINY} cells=[text] cells.control.limit=3",
    "an adapter without a task": "transfer adapter=text",
    "a budget that no policy takes": f"{TINY} policies=[full] budgets=['tokens:9']",
    "a missing folder of configurations": "transfer --configs nowhere",
    "a group that the verb does not take": "transfer evolution=paper",
    "an unknown key": f"{TINY} cells.text.intervall=64",
    "an unknown key of the experiment": f"{TINY} polices=[full]",
    "an unknown adapter": f"{TINY} cells.text.adapter.name=txt",
    "an unknown task": f"{TINY} cells.text.task.name=long_txt",
    "an unknown policy": f"{TINY} policies=[full,h20]",
    "an unknown option of an adapter": f"{TINY} cells.text.adapter.modell=x",
    "an unknown option of a task": f"{TINY} cells.text.task.word=150",
    "an unknown option of a policy": f"{TINY} policies=[{{name:recency,sink:4}}]",
    "an adapter and a task of different shapes": (
        f"{TINY} ~cells.text.task.words cells.text.task.name=offline_rl"
    ),
    "a budget of 0": f"{TINY} budgets=['tokens:0']",
    "a fraction above 1": f"{TINY} budgets=['fraction:1.5']",
    "a budget that is none": f"{TINY} budgets=[64]",
    "a match without a match": f"{TINY} budgets=['match:namm']",
    "a budget below what tova protects": f"{TINY} policies=[tova] budgets=['tokens:1']",
    "a budget below what protected protects": f"{TINY} policies=[protected] budgets=['tokens:2']",
    "a bound on control": f"{TINY} policies=[kvzip] budgets=['pool:0.5'] storage=per_head",
    "a table of heads of another model": (
        f"{TINY} policies=[random] budgets=['heads:smollm2'] storage=per_head"
    ),
    "a table of heads that is not there": (
        f"{TINY} policies=[random] budgets=['heads:mine.json'] storage=per_head"
    ),
    "gates of another model": f"{TINY} policies=[trimkv] budgets=['fraction:0.5']",
    "kernels of another model": (
        f"{TINY} policies=[{{name:less,over:h2o,kernels:kernels.safetensors}}] budgets=['0.5']"
    ),
    "kernels of another policy": (
        f"{TINY} policies=[{{name:less,over:l2,kernels:kernels.safetensors}}] budgets=['0.5']"
    ),
    "kernels that are not there": (
        f"{TINY} policies=[{{name:less,over:l2,kernels:mine.safetensors}}] budgets=['0.5']"
    ),
    "a part that is too large to protect": f"{TINY} policies=[{{name:recency,recents:0.6}}]",
    "a policy for video on text": f"{TINY} policies=[full,infinipot_v] budgets=['tokens:64']",
    "heads that cannot share": f"{TINY} budgets=['pool:0.5'] storage=shared",
    "the same policy twice": f"{TINY} policies=[recency,recency]",
    "an interval of 0": f"{TINY} cells.text.interval=0",
    "an interval that is no multiple of the hop": f"{NAMM}=good.safetensors cells.text.interval=40",
    "a checkpoint that is not there": f"{NAMM}=mine.safetensors",
    "a checkpoint of the wrong size": f"{NAMM}=short.pt",
    "a checkpoint with NaN": f"{NAMM}=nan.pt",
    "a storage that is none": f"{TINY} storage=per-head",
    "a limit of 0": f"{TINY} limit=0",
    "a W&B mode that is none": f"{TINY} wandb=onlin",
    "an output folder that is a file": f"{TINY} output=file",
    "many problems at once": (
        f"{TINY} outptu=x cells.text.interval=x budgets=['tokens:-1'] seeds=[]"
    ),
    "a model that is not there": (
        f"{TINY} cells.text.adapter.model=smollm2-135m cells.control.adapter.model=poket"
    ),
    "a report of nothing": "report",
    "a report of a folder without records": "report empty",
    "a kind of report that is none": "report run --kind pdf",
    "an unknown builder": "build pocket-vidoe",
    "an unknown option of a builder": "build smollm2 size=3",
    "a kind that cannot be listed": "list polices",
    "a word too many": "doctor now",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors")
    shutil.copytree(HERE / "configs", folder / "configs")
    (folder / "file").write_text("not a folder")
    (folder / "empty").mkdir()
    statistics = {
        "stored_buffers_to_save.token_embedding_0_output_mean": torch.zeros(1, 1, 1, 17),
        "stored_buffers_to_save.token_embedding_0_output_var": torch.ones(1, 1, 1, 17),
    }
    vectors = {"short": torch.zeros(7), "nan": torch.full((4172,), torch.nan)}
    for name, vector in vectors.items():
        torch.save({"evolution_state": {"mean": vector, **statistics}}, folder / f"{name}.pt")
    card = {"about": "a test", "made_by": "this test", "licence": "Apache-2.0"}
    good = Namm(torch.ones(4172), torch.zeros(17), torch.ones(17), card=card)
    save(good, folder / "good.safetensors")
    part = {name: torch.zeros(1, 1, 1) for name in PARTS}
    LessKernels((part,), {"model": "smollm2", "policy": "h2o"}).save(folder / "kernels.safetensors")
    return folder


def said(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    code = main(words.split())
    text = capsys.readouterr().err.rstrip("\n")
    # Models come and go.
    text = re.sub(r"(no such model.*Known: ).+(\. `namm-mm list)", r"\1...\2", text)
    return f"$ namm-mm {words}\n{text}\n[exit code {code}]\n"


def snapshots() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", SNAPSHOT.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.strip() + "\n" for part in parts[2::2]), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_message_is_as_agreed(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    found = said(CASES[case], capsys)
    assert "[exit code 0]" not in found
    assert "Traceback" not in found
    if os.environ.get("UPDATE_SNAPSHOTS"):
        known = snapshots() if SNAPSHOT.exists() else {}
        known = {name: text for name, text in {**known, case: found}.items() if name in CASES}
        ordered = (f"## {name}\n{known[name]}\n" for name in CASES if name in known)
        SNAPSHOT.write_text("".join(ordered))
    assert found == snapshots()[case]
