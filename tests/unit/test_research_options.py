"""Options of the scripts in research/benchmarks have the types of their defaults."""

from __future__ import annotations

from research.benchmarks.common import options


def test_a_list_is_of_the_type_of_its_default_and_of_words_where_it_is_empty() -> None:
    parser = options("Words.", families=(), sizes=(1, 2))
    assert parser.parse_args([]).families == []
    found = parser.parse_args(["--families", "word", "order", "--sizes", "3"])
    assert found.families == ["word", "order"]
    assert found.sizes == [3]
