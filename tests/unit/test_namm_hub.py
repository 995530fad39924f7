"""A NAMM is saved to a folder, put on the hub and read from both; a local server is the hub."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import huggingface_hub
import pytest
import torch
from compare import assert_copied

import namm_mm as nm
from namm_mm.cli import main
from namm_mm.errors import RunError, UsageError
from namm_mm.namm.checkpoint import available
from namm_mm.namm.facts import facts
from namm_mm.testing.tiny import tiny_llama, tiny_tokens

COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as the client speaks to put and get small files."""

    files: dict[str, bytes]

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _reply(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: Any, status: int = 200, **headers: str) -> None:
        self._reply(
            json.dumps(content).encode(), status, Content_Type="application/json", **headers
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self._json({"url": f"http://{self.headers['Host']}/me/mine", "name": "me/mine"})
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
            ]
            self._json({"files": modes})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            where = f"http://{self.headers['Host']}/me/mine/commit/{COMMIT}"
            self._json({"success": True, "commitOid": COMMIT, "commitUrl": where})
        else:
            self._json({"error": "unknown"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = unquote(self.path).rpartition("/")[2]
        if self.path.startswith("/api/models/me/mine") and "/tree/" in self.path:
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": "2" * 40}
                for path, content in self.files.items()
            ]
            self._json(tree)
        elif self.path.startswith("/api/models/me/mine"):
            siblings = [{"rfilename": path} for path in self.files]
            self._json({"id": "me/mine", "sha": COMMIT, "siblings": siblings})
        elif "/resolve/" in self.path and name in self.files:
            self._reply(self.files[name], X_Repo_Commit=COMMIT, ETag=f'"{hash(name) & 0xFFFF:x}"')
        else:
            self._json({"error": "no"}, 404, X_Error_Code="RepoNotFound")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    files: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"files": files}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    yield files
    server.shutdown()
    thread.join()
    server.server_close()


def mine() -> nm.Namm:
    general = nm.Namm.from_pretrained("general")
    return replace(general, parameters=general.parameters + 0.5)


def same(one: nm.Namm, other: nm.Namm) -> None:
    assert_copied(one.parameters, other.parameters)
    assert (one.interval, one.storage, one.gamma) == (other.interval, other.storage, other.gamma)


def test_a_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    folder = mine().save_pretrained(tmp_path / "namm")
    assert sorted(file.name for file in folder.iterdir()) == ["namm.json", "namm.safetensors"]
    same(nm.Namm.from_pretrained(folder), mine())
    (folder / "namm.safetensors").rename(folder / "other.safetensors")
    (folder / "namm.json").rename(folder / "other.json")
    same(nm.Namm.from_pretrained(str(folder)), mine())  # the only one of its folder
    with pytest.raises(UsageError, match=r"no NAMM in the folder .*expected namm\.safetensors"):
        nm.Namm.from_pretrained(tmp_path)


def test_what_is_pushed_to_the_hub_is_what_is_read_from_it(hub: dict[str, bytes]) -> None:
    address = mine().push_to_hub("me/mine")
    assert address.endswith(f"/me/mine/commit/{COMMIT}")
    assert sorted(hub) == ["README.md", "namm.json", "namm.safetensors"]
    page = hub["README.md"].decode()
    assert page.startswith("---\nlicense: apache-2.0\n")
    assert 'nm.Namm.from_pretrained("me/mine")' in page
    assert "| licence | Apache-2.0 |" in page
    assert "| training | 480 training prompts of long_text" in page
    assert "| score: validation prompts | 24 |" in page
    same(nm.Namm.from_pretrained("me/mine"), mine())
    with torch.no_grad(), nm.attach(tiny_llama(), nm.policy("namm", checkpoint="me/mine")) as held:
        assert held.interval == 128


def test_a_repository_that_is_not_there_is_told(hub: dict[str, bytes]) -> None:
    with pytest.raises(RunError, match=r"the hub does not give me/nothing.*hf auth whoami"):
        nm.Namm.from_pretrained("me/nothing")


def test_the_old_name_says_the_new_one() -> None:
    found = subprocess.run(
        [sys.executable, "-c", "from namm_mm import load"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ImportError: namm_mm.load is called namm_mm.Namm.from_pretrained now" in found.stderr


def test_the_doors_lead_to_what_they_name() -> None:
    model, tokens = tiny_llama(), tiny_tokens(1, 40)
    with torch.no_grad(), nm.attach(model, nm.policies.H2O(budget=0.25), interval=16) as memory:
        model(tokens)
    assert isinstance(memory, nm.Memory)
    assert nm.policy("h2o", budget=0.25) == nm.policies.H2O(budget=0.25)
    assert {"Memory", "Namm", "attach", "policies", "policy"} <= set(dir(nm))
    for name in nm.policies.__all__:
        assert getattr(nm.policies, name) is not None


def test_show_says_what_a_namm_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    general = nm.Namm.from_pretrained("general")
    folder = general.save_pretrained(tmp_path / "mine")
    for source in ("general", str(folder), str(folder / "namm.safetensors")):
        assert main(["namm", "show", source, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["what"] == general.card["about"]
        assert shown["training"] == general.card["training"]
        assert shown["threshold"] == general.card["threshold"]
        assert shown["licence"] == "Apache-2.0"
        assert shown["interval"] == "128 tokens between two updates"
        assert shown["storage"] == "per_head"
        assert shown["parameters"] == f"{general.parameters.numel()} (bam)"
        assert shown["score: validation prompts"] == "24"
        assert "relative" not in shown["features"]
    assert main(["namm", "show", "evolved_relative"]) == 0
    printed = capsys.readouterr().out
    assert "relative to an equal share" in " ".join(printed.split())
    assert "next: namm-mm transfer checkpoint=evolved_relative" in printed


def test_every_bundled_namm_can_be_shown_and_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["namm", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert set(listed) == set(available())
    for name in listed:
        shown = dict(facts(nm.Namm.from_pretrained(name)))
        assert "its card does not say" not in (shown["what"], shown["made by"], shown["licence"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shw", "general"], "Did you mean 'show'?"),
        (["show", "generl"], "Did you mean 'general'?"),
        (["show"], "expected one name, folder, file or OWNER/NAME"),
        (["show", "nowhere.safetensors"], "no such NAMM: got 'nowhere.safetensors'"),
    ],
)
def test_what_cannot_be_shown_is_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["namm", *words]) == 2
    assert said in capsys.readouterr().err
