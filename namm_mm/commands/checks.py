"""Check the installation: what is there, what is missing, and the next command for it."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from namm_mm.errors import NammError
from namm_mm.models.listing import list_models
from namm_mm.tracking import resolve_wandb_mode


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes
    ----------
    name
        What was looked at.
    state
        ``ok``, ``missing`` (something optional) or ``broken`` (something that a run needs).
    found
        What is there.
    then
        The next command, where something is not.
    """

    name: str
    state: str
    found: str
    then: str = ""


REINSTALL = "pip install --force-reinstall -c constraints.txt -e ."


def checks() -> Iterator[Check]:
    """Look at everything, one after the other; no check raises."""
    for name, look in LOOKS.items():
        try:
            yield from look()
        except Exception as error:  # a doctor reports what it finds, whatever it is
            yield Check(name, "broken", f"{type(error).__name__}: {error}", REINSTALL)


def _versions() -> Iterator[Check]:
    yield Check("Python", "ok", f"{platform.python_version()} on {platform.system()}")
    from packaging.requirements import Requirement

    for text in requires("namm-mm") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            install = f"pip install '{requirement.name}{requirement.specifier}'"
            yield Check(requirement.name, "broken", "not installed", install)
            continue
        if requirement.specifier.contains(found, prereleases=True):
            yield Check(requirement.name, "ok", found)
        else:
            install = f"pip install '{requirement.name}{requirement.specifier}'"
            wrong = f"{found}, expected {requirement.specifier}"
            yield Check(requirement.name, "broken", wrong, install)


def _decoders() -> Iterator[Check]:
    """Encode a tiny clip and read it back with each decoder."""
    with tempfile.TemporaryDirectory(prefix="namm-mm-") as folder:
        clip = Path(folder) / "clip.mp4"
        _write_clip(clip)
        readers = {"decord": _frames_with_decord, "PyAV": _frames_with_pyav}
        for name, read in readers.items():
            try:
                frames = read(clip)
            except Exception as error:  # a broken decoder may raise anything
                package = {"decord": "decord2", "PyAV": "av"}[name]
                what = f"{type(error).__name__}: {error}"
                then = f"pip install --force-reinstall {package}"
                yield Check(f"video decoder {name}", "broken", what, then)
            else:
                state = "ok" if frames == CLIP_FRAMES else "broken"
                what = f"read {frames} of {CLIP_FRAMES} frames"
                yield Check(f"video decoder {name}", state, what)


CLIP_FRAMES = 4


def _write_clip(path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for value in range(CLIP_FRAMES):
            picture = np.full((32, 32, 3), 60 * value, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _frames_with_decord(path: Path) -> int:
    import decord

    return len(decord.VideoReader(str(path)))


def _frames_with_pyav(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def _mujoco() -> Iterator[Check]:
    # Not imported above: it needs numpy and Gymnasium, and a broken one is what is looked for.
    environments = import_module("namm_mm.tasks.offline_rl.environments")
    environment = environments.make_environment("Hopper-v5")
    try:
        environment.reset(seed=0)
        environment.step(environment.action_space.sample())
    finally:
        environment.close()
    yield Check("MuJoCo", "ok", "Hopper-v5 steps")


def _wandb() -> Iterator[Check]:
    try:
        mode = resolve_wandb_mode(None)
    except NammError as error:
        yield Check("W&B", "broken", str(error), "unset WANDB_MODE")
        return
    source = "from WANDB_MODE" if os.environ.get("WANDB_MODE") else "the default"
    yield Check("W&B", "ok", f"{mode} ({source}); `wandb sync RUN/wandb/*` uploads later")


def _devices() -> Iterator[Check]:
    import torch

    cores = os.cpu_count() or 1
    yield Check("CPU", "ok", f"{cores} cores, torch uses {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory / 2**30
            name = torch.cuda.get_device_name(index)
            yield Check(f"GPU cuda:{index}", "ok", f"{name}, {memory:.0f} GiB")
    else:
        why = "torch is a CPU build" if torch.version.cuda is None else "torch sees no device"
        yield Check("GPU", "missing", f"{why}; everything runs on the CPU, published models slowly")


def _models() -> Iterator[Check]:
    states = {"bundled": "ok", "cached": "ok", "damaged": "broken"}
    for asset in list_models(verify=True):
        state = states.get(asset.status, "missing")
        yield Check(f"model {asset.name}", state, asset.status, asset.then)
    checkpoint = import_module("namm_mm.namm.checkpoint")  # these need torch
    network = import_module("namm_mm.namm.network")
    for name in checkpoint.available():
        try:
            network.Namm.from_pretrained(name)
        except NammError as error:
            then = f"git checkout -- namm_mm/assets/namm_{name}.*, or install namm-mm anew"
            yield Check(f"NAMM {name}", "broken", str(error), then)
        else:
            yield Check(f"NAMM {name}", "ok", "bundled")


LOOKS: dict[str, Callable[[], Iterator[Check]]] = {
    "versions": _versions,
    "video decoders": _decoders,
    "MuJoCo": _mujoco,
    "W&B": _wandb,
    "devices": _devices,
    "models": _models,
}
