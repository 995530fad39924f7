"""The whole test suite that a new modality needs."""

from namm_mm_melody.adapter import MelodyAdapter
from namm_mm_melody.policy import Stride
from namm_mm_melody.readers import Readers
from namm_mm_melody.task import NextNoteTask

from namm_mm.testing import check_adapter, check_policy, check_task


def test_the_adapter_keeps_its_promises() -> None:
    check_adapter(MelodyAdapter(), NextNoteTask().samples("test", 3, seed=0))


def test_the_task_keeps_its_promises() -> None:
    check_task(NextNoteTask())


def test_the_policy_keeps_its_promises() -> None:
    check_policy(Stride())


def test_the_policy_with_an_observation_of_its_own_keeps_its_promises() -> None:
    check_policy(Readers())
