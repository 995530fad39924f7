"""`attach` runs a policy as it was made, unless the caller says otherwise."""

from __future__ import annotations

import dataclasses
import threading
import warnings
from typing import Any

import pytest
import torch

from namm_mm.errors import NammWarning, UsageError
from namm_mm.memory import attach
from namm_mm.namm import Namm
from namm_mm.policies import H2O, Budget, NammPolicy, create
from namm_mm.policies.preferences import mismatch
from namm_mm.testing.tiny import tiny_llama, tiny_tokens


def test_a_namm_brings_its_interval_and_its_storage() -> None:
    model, general = tiny_llama(), Namm.from_pretrained("general")
    assert (general.interval, general.storage) == (128, "per_head")
    for given in ("namm", create("namm"), general, NammPolicy(general)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with torch.no_grad(), attach(model, given) as memory:
                model(tiny_tokens(1, 200))
        assert memory.interval == 128
        assert memory.rules.per_head
        assert memory.usage().updates == 1


@pytest.mark.parametrize(
    ("budget", "interval", "per_head"),
    [(0.25, 512, False), ("tokens:64", 512, False), ("pool:0.25", 512, True)],
)
def test_other_policies_have_the_interval_of_the_paper(
    budget: Any, interval: int, per_head: bool
) -> None:
    with attach(tiny_llama(), H2O(budget=budget)) as memory:
        assert memory.interval == interval
        assert memory.rules.per_head == per_head


def test_a_threshold_under_other_conditions_is_told_with_what_to_do() -> None:
    model = tiny_llama()
    with pytest.warns(NammWarning, match=r"set for storage per_head.*Leave out storage") as told:
        attach(model, "namm", storage="shared")
    assert told[0].filename == __file__
    with pytest.warns(NammWarning, match="interval 128 and storage per_head, and runs with inter"):
        attach(model, "namm", interval=512, storage="shared")
    for budget in (0.25, "tokens:64"):  # no threshold: any interval will do
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            attach(model, create("namm", budget=budget), interval=512, storage="shared")
    bare = dataclasses.replace(Namm.from_pretrained("general"), card={})
    assert mismatch(NammPolicy(bare), 128, "shared") == ""


def test_a_budget_is_the_same_as_a_number_in_words_and_as_an_object() -> None:
    assert H2O(budget=0.25).selection == Budget(fraction=0.25)
    assert H2O(budget="0.25") == H2O(budget="fraction:0.25") == create("h2o", budget=0.25)
    assert H2O(budget="tokens:512").selection == Budget(tokens=512)
    assert H2O(budget=Budget(tokens=7)).selection == Budget(tokens=7)
    for wrong, words in (
        (64, "write tokens:64"),
        (1.5, "0 < fraction <= 1"),
        ("tokens:none", "unknown budget"),
        (None, "unknown budget"),
    ):
        with pytest.raises(UsageError, match=words):
            H2O(budget=wrong)  # type: ignore[arg-type]


def test_an_observation_or_a_name_is_no_option() -> None:
    for option in ("needs", "name"):
        with pytest.raises(UsageError, match="unknown option of the policy 'h2o'"):
            create("h2o", **{option: "none"})
    with pytest.raises(UsageError, match="`selection` is called `budget` now"):
        create("h2o", selection=Budget(tokens=4))
    with pytest.raises(UsageError, match="full protects no tokens"):
        create("full", recents=4)


def test_what_is_no_policy_is_refused() -> None:
    model = tiny_llama()
    with pytest.raises(UsageError, match="Did you mean 'namm'"):
        attach(model, "nam")
    with pytest.raises(UsageError, match="expected a policy, the name of one, or a Namm"):
        attach(model, object())  # type: ignore[arg-type]


def test_threads_that_generate_at_once_get_what_they_get_alone() -> None:
    model = tiny_llama()
    prompts = [tiny_tokens(1, 60 + 7 * n, seed=n) for n in range(4)]
    found: dict[int, list[int]] = {}

    def answer(number: int) -> list[int]:
        tokens = prompts[number]
        with torch.no_grad():
            out = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                max_new_tokens=30,
                min_new_tokens=30,
                do_sample=False,
            )
        return [int(token) for token in out[0]]

    ready = threading.Barrier(len(prompts))

    def work(number: int) -> None:
        ready.wait()
        found[number] = answer(number)

    with attach(model, H2O(budget="tokens:24"), interval=32):
        alone = [answer(number) for number in range(len(prompts))]
        for _ in range(3):
            threads = [threading.Thread(target=work, args=(n,)) for n in range(len(prompts))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert [found[number] for number in range(len(prompts))] == alone
