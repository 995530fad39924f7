"""InfiniteBench (Zhang et al., ACL 2024, arXiv:2402.13718): prompts, answers and their lengths.

Prompts are those of the authors for base models ("yarn-mistral" in their MIT-licensed code), which
end where the answer begins; what is published for chat models differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from namm_mm.errors import UsageError, message
from namm_mm.tasks.infinitebench import metrics
from namm_mm.tasks.text_benchmarks.benchmark import Row, Subset, TextBenchmark
from namm_mm.tasks.text_benchmarks.files import Published

PUBLISHED = Published("InfiniteBench", "xinrongzhang2022/InfiniteBench", ("{subset}.jsonl",))

_PLAIN = ("context", "input", "answer")
_CHOICE = (*_PLAIN, "options")
LETTERS = "ABCD"

TASKS: Mapping[str, Subset] = {
    "passkey": Subset(590, 6, "accuracy", metrics.first_number, _PLAIN),
    "number_string": Subset(590, 12, "accuracy", metrics.first_number, _PLAIN),
    "kv_retrieval": Subset(500, 50, "accuracy", metrics.word_is_there, _PLAIN),
    "longbook_sum_eng": Subset(103, 1200, "rouge_l_sum", metrics.summary, _PLAIN),
    "longbook_choice_eng": Subset(229, 40, "accuracy", metrics.chosen_letter, _CHOICE),
    "longbook_qa_eng": Subset(351, 40, "f1", metrics.english_f1, _PLAIN),
    "longbook_qa_chn": Subset(None, 40, "f1", metrics.chinese_f1, _PLAIN),
    "longdialogue_qa_eng": Subset(200, 40, "accuracy", metrics.name_is_there, _PLAIN),
    "math_find": Subset(350, 3, "accuracy", metrics.found_number, _PLAIN),
    "math_calc": Subset(50, 30_000, "right_prefix", metrics.right_prefix, _PLAIN),
    "code_run": Subset(400, 5, "accuracy", metrics.last_number, _PLAIN),
    "code_debug": Subset(394, 5, "accuracy", metrics.chosen_function, _CHOICE),
}

_HIDDEN = (
    "There is an important info hidden inside a lot of irrelevant text. Find it{}. I will quiz you "
    "about the important information there.\n\n{{context}}\n\n{{input}}\n\n{}"
)
_OPTIONS = "A. {a}\nB. {b}\nC. {c}\nD. {d}"
PROMPTS: Mapping[str, str] = {
    "passkey": _HIDDEN.format(" and memorize them", "The pass key is"),
    "number_string": _HIDDEN.format("", "The sequence of digits is"),
    "kv_retrieval": "Extract the value corresponding to the specified key in the JSON object below."
    "\n\n{context}\n\n{input}",
    "longbook_sum_eng": "Summarize the book below.\n\n{context}\n\nSummary:",
    "longbook_choice_eng": "Read the book and answer the question.\n\n{context}\n\n"
    "Question: {input}\n" + _OPTIONS + "\n\nThe letter of the correct answer is",
    "longbook_qa_eng": "Read the book and answer the question. Be very concise in your answer."
    "\n\n{context}\n\nQuestion: {input}\nAnswer:",
    "longbook_qa_chn": "阅读以下书籍然后回答问题。\n\n{context}\n\n问题：{input}\n答案：",  # noqa: RUF001
    "longdialogue_qa_eng": "Below is a dialogue script where one random occurrence of a character "
    'name is replaced with "$$MASK$$", and you should try to guess who that character is.\n\n'
    "{context}\n\nThe name that has been replaced with $$MASK$$ is likely",
    "math_find": "{prefix}\n\n{context}\n\n{input}",
    "math_calc": "Let us calculate the intermediate values of an expression.\n\n"
    "Expression: 1 + 3 + 4\nValues: [1, 4, 8]\n\nExpression: 8 - 3 + 2 - 4\n"
    "Values: [8, 5, 7, 3]\n\nExpression: {context}\nValues:",
    "code_run": "There is a function called {func} in the following Python code.\n\n{context}\n\n"
    "Please compute the exact value of {call}. The value of {call} is",
    "code_debug": "Following is a Python code where exactly one of the functions/methods has a "
    "deliberate error that makes it crash.\n\n{context}\n\nOptions:\n" + _OPTIONS + "\n\n"
    "The correct option is:",
}


class InfiniteBenchTask(TextBenchmark):
    """InfiniteBench: twelve tasks of 100,000 tokens and more."""

    published = PUBLISHED
    tasks = TASKS

    def prompt(self, subset: str, row: Row) -> str:
        """Return the authors' prompt, filled in."""
        return PROMPTS[subset].format(context=row["context"], **_parts(subset, row))

    def references(self, subset: str, row: Row) -> Any:
        """Return the published answer; for a choice, the right letter, or name and letter.

        Raises
        ------
        UsageError
            The answer is none of the options.
        """
        answer = row["answer"]
        if subset not in ("longbook_choice_eng", "code_debug"):
            return answer
        right = answer[0] if isinstance(answer, list) else answer
        options = list(row["options"])
        if right not in options:
            raise UsageError(
                message(
                    f"{subset}.jsonl: the answer is none of the options",
                    given=right,
                    expected="one of them",
                    valid=map(str, options),
                )
            )
        letter = LETTERS[options.index(right)]
        return [letter] if subset == "longbook_choice_eng" else [right, letter]

    def right(self, subset: str, row: Row) -> str:
        """Return a reply that scores 1."""
        references = self.references(subset, row)
        if subset == "code_debug":
            return f"{references[1]}. {references[0]}"
        if subset == "math_calc":
            return str(references)
        return super().right(subset, row)


def _parts(subset: str, row: Row) -> dict[str, str]:
    """Return what fills a prompt besides the context."""
    text = str(row["input"])
    if subset == "code_run":
        call = re.search(r"(func_\d+)\(.*?\)", text)
        if call is None:
            raise UsageError(
                message(
                    "code_run.jsonl: no call in the input", given=text, expected="func_N(NUMBER)"
                )
            )
        return {"func": call[1], "call": call[0]}
    if subset == "math_find":
        asked = re.search(r"The \w+ number", text)
        if asked is None:
            raise UsageError(
                message("math_find.jsonl: nothing asked", given=text, expected="The ... number")
            )
        return {"prefix": f"What is {asked[0].lower()} in the following list?", "input": text}
    if subset in ("longbook_choice_eng", "code_debug"):
        options = dict(zip("abcd", map(str, row["options"]), strict=True))
        return {"input": text, **options}
    return {"input": text}
