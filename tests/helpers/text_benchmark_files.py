"""Miniature text benchmarks in the published layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INFINITEBENCH: dict[str, list[dict[str, Any]]] = {
    "passkey": [{"context": "x " * 9, "input": "The pass key?", "answer": ["71432"]}],
    "number_string": [{"context": "y", "input": "The digits?", "answer": ["2200"]}],
    "kv_retrieval": [
        {"context": '{"a1": "b2"}', "input": 'Key: "a1"', "answer": "b2"},
        {"context": '{"c3": "d4"}', "input": 'Key: "c3"', "answer": "d4"},
    ],
    "longbook_sum_eng": [{"context": "A book.", "input": "", "answer": ["It rains.\nAll day."]}],
    "longbook_choice_eng": [
        {"context": "z", "input": "Who?", "answer": ["Bea"], "options": ["Al", "Bea", "Cy", "Di"]}
    ],
    "longbook_qa_eng": [{"context": "w", "input": "Where?", "answer": ["in the old mill"]}],
    "longbook_qa_chn": [{"context": "书", "input": "谁？", "answer": ["李明"]}],  # noqa: RUF001
    "longdialogue_qa_eng": [{"context": "$$MASK$$: hi", "input": "", "answer": ["ANNA"]}],
    "math_find": [{"context": "[3, 9]", "input": "The largest number is:", "answer": 9}],
    "math_calc": [{"context": "1 + 2", "input": "", "answer": [1, 3]}],
    "code_run": [
        {"context": "def func_1(x): ...", "input": "Return value of func_1(-3).", "answer": 12}
    ],
    "code_debug": [{"context": "c", "input": "", "answer": "g", "options": ["e", "f", "g", "h"]}],
}
CHOUBUN: dict[str, list[dict[str, Any]]] = {
    "wiki_qa": [{"context": "東京は首都。", "input": "首都は?", "answers": ["東京", "東京都"]}],
    "edinet_qa": [{"context": "売上は十億円。", "input": "売上は?", "answers": ["十億円"]}],
    "corp_sec_qa": [{"context": "会長は鈴木。", "input": "会長は?", "answers": ["鈴木"]}],
    "corp_sec_sum": [{"context": "本年は増益。", "input": "", "answers": ["増益の年。"]}],
}


def write(folder: Path, rows: dict[str, list[dict[str, Any]]]) -> Path:
    """Write a JSON-lines file for each subset."""
    folder.mkdir(parents=True, exist_ok=True)
    for subset, found in rows.items():
        lines = (json.dumps({"id": n, **row}, ensure_ascii=False) for n, row in enumerate(found))
        (folder / f"{subset}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
