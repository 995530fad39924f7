"""Trajectories are the same from every layout, and a broken download goes on where it stopped."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from namm_mm.errors import RunError, UsageError
from namm_mm.tasks.offline_rl.data import KEYS, Trajectories, write_dataset
from namm_mm.tasks.offline_rl.resumable import download
from namm_mm.tasks.offline_rl.sources import read_trajectories

CONTENT = bytes(range(256)) * 40_000  # ten blocks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Host:
    """A web host on the loopback interface.

    `breaks` connections end in the middle; `ranges` says whether it can go on from there.
    """

    url: str = ""
    breaks: int = 0
    ranges: bool = True
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def host() -> Iterator[Host]:
    state = Host()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.asked.append(asked)
            if self.path != "/data.hdf5":
                self.send_error(404)
                return
            start = int(asked[6:-1]) if asked and state.ranges else 0
            if start >= len(CONTENT):
                self.send_error(416)
                return
            body = CONTENT[start:]
            self.send_response(206 if asked and state.ranges else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.breaks:
                state.breaks -= 1
                body = body[: len(body) // 3]
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/data.hdf5"
        yield state
        server.shutdown()


def test_a_broken_connection_is_gone_on_with_and_not_begun_again(
    host: Host, tmp_path: Path
) -> None:
    host.breaks = 2
    seen: list[tuple[int, int]] = []
    path = download(
        host.url, tmp_path / "data.hdf5", SHA256, on_block=lambda *block: seen.append(block)
    )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    first, second, third = host.asked
    assert not first
    assert 0 < int(second[6:-1]) < int(third[6:-1])
    assert [p.name for p in tmp_path.iterdir()] == ["data.hdf5"]


def test_a_later_run_goes_on_with_what_an_earlier_one_left(host: Host, tmp_path: Path) -> None:
    host.breaks = 1
    with pytest.raises(RunError, match=r"cannot download data\.hdf5.*are kept in.*curl -LO"):
        download(host.url, tmp_path / "data.hdf5", SHA256, attempts=1)
    held = (tmp_path / "data.hdf5.part").stat().st_size
    assert held
    download(host.url, tmp_path / "data.hdf5", SHA256)
    assert host.asked[-1] == f"bytes={held}-"
    assert (tmp_path / "data.hdf5").read_bytes() == CONTENT


def test_a_host_without_ranges_sends_it_all_again(host: Host, tmp_path: Path) -> None:
    host.ranges = False
    (tmp_path / "data.hdf5.part").write_bytes(CONTENT[:1000])
    download(host.url, tmp_path / "data.hdf5", SHA256)
    assert (tmp_path / "data.hdf5").read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(host: Host, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"another file.*SHA-256 0000"):
        download(host.url, tmp_path / "data.hdf5", "0000")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RunError, match="404"):
        download(f"{host.url}.gone", tmp_path / "data.hdf5", SHA256)
    assert len(host.asked) == 2, "what is not there was asked for again"


def two_episodes() -> Trajectories:
    """Three steps that end by themselves, then four that are cut."""
    generator = np.random.default_rng(1)
    terminals, timeouts = np.zeros((2, 7), dtype=np.bool_)
    terminals[2], timeouts[6] = True, True
    return Trajectories(
        observations=generator.standard_normal((7, 5)).astype(np.float32),
        actions=generator.standard_normal((7, 2)).astype(np.float32),
        rewards=np.arange(7, dtype=np.float32),
        terminals=terminals,
        timeouts=timeouts,
    )


def as_parquet(path: Path, data: Trajectories) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra `benchmarks`) is not installed")
    import pyarrow.parquet as parquet

    rows = [
        {
            "observations": part.observations.tolist(),
            "actions": part.actions.tolist(),
            "rewards": part.rewards.tolist(),
            "dones": part.terminals.tolist(),
        }
        for part in data.episodes()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def as_minari(path: Path, data: Trajectories) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, part in enumerate(data.episodes()):
            group = file.create_group(f"episode_{number}")
            last = np.full((1, 5), 9.0, dtype=np.float32)
            group["observations"] = np.concatenate([part.observations, last])
            group["actions"], group["rewards"] = part.actions, part.rewards
            group["terminations"], group["truncations"] = part.terminals, part.timeouts
            group.create_group("infos")


@pytest.mark.parametrize("layout", ["d4rl", "minari", "parquet", "minari id", "hub"])
def test_every_layout_gives_the_same_episodes(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = two_episodes()
    source = str(tmp_path / "data.hdf5")
    match layout:
        case "d4rl":
            write_dataset(Path(source), data, {})
        case "minari":
            as_minari(Path(source), data)
        case "parquet":
            source = str(tmp_path / "0000.parquet")
            as_parquet(Path(source), data)
        case "minari id":
            monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
            source = "minari/mujoco/hopper/medium-v0"
            file = tmp_path / "mujoco" / "hopper" / "medium-v0" / "data" / "main_data.hdf5"
            as_minari(file, data)
        case "hub":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
            source = "gym_replay/hopper-medium-v2"
            home = tmp_path / "datasets--edbeeching--decision_transformer_gym_replay"
            as_parquet(home / "snapshots/abc/hopper-medium-v2/train/0000.parquet", data)
            ref = home / "refs" / "refs" / "convert" / "parquet"
            ref.parent.mkdir(parents=True)
            ref.write_text("abc")
    read = read_trajectories(source, state_dim=5, action_dim=2)
    for key in KEYS:
        np.testing.assert_array_equal(getattr(read, key), getattr(data, key))
    assert read.bounds == ((0, 3), (3, 7))
    with pytest.raises(RunError, match="observations"):
        read_trajectories(source, state_dim=11)


def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.hdf5"
    as_minari(path, two_episodes())
    with h5py.File(path, "r+") as file:
        del file["episode_1/rewards"]
    with pytest.raises(RunError, match="episode_1: key 'rewards' is missing"):
        read_trajectories(str(path))
    as_minari(path, two_episodes())
    with h5py.File(path, "r+") as file:
        short = file["episode_0/observations"][:2]
        del file["episode_0/observations"]
        file["episode_0/observations"] = short
    with pytest.raises(RunError, match=r"episode_0: .*'observations'.*4 rows"):
        read_trajectories(str(path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(RunError, match="minari download mujoco/hopper/medium-v0"):
        read_trajectories("minari/mujoco/hopper/medium-v0")
    with pytest.raises(RunError, match=r"cannot get .* from the hub.*hf download"):
        read_trajectories("gym_replay/hopper-medium-v2")
    with pytest.raises(UsageError, match="Did you mean 'hopper-medium-v2'"):
        read_trajectories("d4rl/hoper-medium-v2")
    with pytest.raises(UsageError, match="unknown trajectories"):
        read_trajectories("hopper")


def test_a_model_trained_on_any_of_them_can_act(tmp_path: Path) -> None:
    from namm_mm.adapters.control.adapter import DecisionTransformerAdapter
    from research.builders.control.decision_transformer import BuildDecisionTransformer

    path = tmp_path / "data.hdf5"
    as_minari(path, two_episodes())
    said: list[str] = []
    sizes = {"updates": 4, "every": 2, "batch": 4, "window": 3, "width": 8, "warmup": 2}
    builder = BuildDecisionTransformer(str(path), out=tmp_path / "dt", **sizes)  # type: ignore[arg-type]
    made = builder.build(said.append)
    assert [line.split(":")[0] for line in said[-2:]] == ["update 2", "update 4"]
    adapter = DecisionTransformerAdapter(str(made), device="cpu")
    adapter.load()
    assert adapter.dimensions == (5, 2)
    assert adapter.control_facts.window == 3
    np.testing.assert_allclose(
        adapter.control_facts.state_mean, two_episodes().observations.mean(axis=0), rtol=1e-4
    )
    with pytest.raises(UsageError, match="no data set"):
        BuildDecisionTransformer().build()
