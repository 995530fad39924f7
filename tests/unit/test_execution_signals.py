"""SIGTERM and SIGHUP stop a run as Ctrl-C does; what a killed process left in /tmp is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from namm_mm.execution import temporary
from namm_mm.execution.signals import ENDING, Stopped, noted, raise_noted, stoppable


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    """Whoever started the tests may ignore a signal, as ``nohup`` does."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interrupt_and_the_handler_comes_back(number: signal.Signals) -> None:
    def play() -> None:
        with stoppable():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt, match=number.name) as caught:
        play()
    assert isinstance(caught.value, Stopped)
    assert caught.value.number == number
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup does
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_that_a_library_swallows_is_raised_later() -> None:
    def play() -> None:
        with stoppable(), noted() as arrived:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except KeyboardInterrupt:
                pass
            raise_noted(arrived)

    with pytest.raises(Stopped):
        play()


def test_threads_leave_signals_alone() -> None:
    failed: list[BaseException] = []

    def play() -> None:
        try:
            with stoppable(), noted():
                pass
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    thread.join()
    assert not failed


def test_the_folders_of_a_killed_process_are_removed_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = (
        "import tempfile, time\n"
        "from namm_mm.execution import temporary\n"
        "temporary.make_folder()\n"
        "with temporary.used():\n"
        "    tempfile.mkdtemp()\n"
        "print('made', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        mine, strange = temporary.make_folder(), tmp_path / "namm-of-somebody"
        strange.mkdir()
        assert len(list(tmp_path.iterdir())) == 4
        temporary.remove_abandoned()
        assert len(list(tmp_path.iterdir())) == 4  # it lives
        process.kill()
    temporary.remove_abandoned()
    assert set(tmp_path.iterdir()) == {mine, strange}


def test_a_process_that_ends_removes_its_folder(tmp_path: Path) -> None:
    code = "from namm_mm.execution import temporary\nwith temporary.used(): pass\n"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
