"""HumanEvalPack (Muennighoff et al. 2023): synthesize, fix and explain in six languages.

Prompts, stops and the cutting of answers follow the harness that the paper's authors published, with its prompt form
`continue` for synthesize and `instruct` for the others. Fix shows the tests, not the docstring. A program always begins
with the row's own prompt, which has the imports and the functions that the tests need.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from demiurgic_jax.evaluation.benchmark import EXPLANATION, Problem, Question, Retelling
from demiurgic_jax.evaluation.continuation import Continuation
from demiurgic_jax.evaluation.extraction import defines
from demiurgic_jax.sandbox.verdict import Language

Row = Mapping[str, Any]

# The data set's own names of languages.
PACK_LANGUAGES: dict[str, Language] = {
    "python": "python",
    "js": "javascript",
    "java": "java",
    "cpp": "cpp",
    "go": "go",
    "rust": "rust",
}
_NAMES = {"python": "Python", "javascript": "JavaScript", "java": "Java", "cpp": "C++", "go": "Go", "rust": "Rust"}
_STOPS: dict[str, tuple[str, ...]] = {
    "python": ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\nassert"),
    "go": ("\n//", "\nfunc main(", "struct", "\nfunc"),
}
# What the harness puts before every program; the sandbox keeps of Go's imports those that are used.
_SETUP = {
    "python": "".join(
        f"import {name}\n"
        for name in (
            *("math", "re", "sys", "copy", "datetime", "itertools", "collections", "heapq", "statistics"),
            *("functools", "hashlib", "string"),
        )
    )
    + "from typing import *\nfrom collections import *\n",
    "cpp": "".join(
        f"#include<{name}>\n"
        for name in (
            *(
                "stdlib.h",
                "algorithm",
                "cmath",
                "math.h",
                "numeric",
                "stdio.h",
                "vector",
                "set",
                "map",
                "queue",
                "stack",
            ),
            *("list", "deque", "string", "climits", "cstring", "iostream", "sstream", "fstream"),
        )
    )
    + "using namespace std;\n",
}
_GO_IMPORTS = ("math", "strings", "fmt", "strconv", "time", "bytes", "regexp", "sort", "math/rand", "crypto/md5")


def synthesize_problems(rows: Sequence[Row], pack_language: str) -> list[Problem]:
    """The prompt goes on; a chat is given the paper's instruction with the head of the function."""
    language = PACK_LANGUAGES[pack_language]
    return [
        _problem(
            row,
            language,
            "synthesize",
            Question(
                row["prompt"].strip(),
                f"{row['instruction'].strip()}\n\n{row['prompt'].strip()}",
                _STOPS.get(language, ()),
            ),
        )
        for row in rows
    ]


def fix_problems(rows: Sequence[Row], pack_language: str) -> list[Problem]:
    """The buggy function with its tests, and the head of the function to begin with."""
    language = PACK_LANGUAGES[pack_language]
    problems = []
    for row in rows:
        base = _declaration(row, language)
        asked = f"{base}{row['buggy_solution']}\n{row['test']}\nFix bugs in {row['entry_point']}."
        question = Question(f"{asked}\n\n{base}".strip(), asked.strip(), _STOPS.get(language, ()))
        problems.append(_problem(row, language, "fix", question))
    return problems


def explain_problems(rows: Sequence[Row], pack_language: str) -> list[Problem]:
    """First the code is described in at most as many characters as its docstring has, then written from that alone."""
    language = PACK_LANGUAGES[pack_language]
    problems = []
    for row in rows:
        base, limit = _declaration(row, language), len(row["docstring"])
        describe = (
            f"{base}{row['canonical_solution']}\n"
            f"Provide a concise natural language description of the code using at most {limit} characters."
        ).strip()
        write = f"{EXPLANATION}\nWrite functional code in {_NAMES[language]} according to the description."
        again = Question(f"{write}\n\n{base}".strip(), f"{write}\n\n{base}".strip(), _STOPS.get(language, ()))
        retelling = Retelling(again, row["canonical_solution"], limit)
        problems.append(_problem(row, language, "explain", Question(describe, describe), retelling))
    return problems


def _declaration(row: Row, language: Language) -> str:
    return ("fn main(){}\n" if language == "rust" else "") + row["declaration"]


def _problem(
    row: Row, language: Language, skill: str, question: Question, retelling: Retelling | None = None
) -> Problem:
    before = row["prompt"].rstrip()
    cut = row["prompt"][len(before) :]
    judging = Continuation(
        language,
        before,
        _tests(row, language),
        row["entry_point"],
        preamble=_preamble(row, language),
        stops=_STOPS.get(language, ()),
        cut_block=True,
        setup=_setup(language),
    )
    return Problem(
        id=str(row["task_id"]),
        language=language,
        skill=skill,
        question=question,
        judging=judging,
        canonical=cut + row["canonical_solution"],
        buggy=cut + row["buggy_solution"],
        bug_type=row["bug_type"],
        retelling=retelling,
    )


def _tests(row: Row, language: Language) -> str:
    return f"{row['test_setup']}\n{row['test']}" if language == "go" else row["test"]


def _setup(language: Language) -> str:
    if language == "go":
        return "import (\n" + "".join(f'    "{name}"\n' for name in _GO_IMPORTS) + ")\n"
    return _SETUP.get(language, "")


def _preamble(row: Row, language: Language) -> str:
    """What stands before the function in the prompt: imports, and functions that the problem gives."""
    lines = row["prompt"].rstrip().split("\n")
    if language == "java":
        return "\n".join(line for line in lines if line.startswith("import "))
    heads = [place for place, line in enumerate(lines) if defines(line, row["entry_point"], language)]
    text = "\n".join(lines[: heads[-1]] if heads else [])
    # A description that the cut has left open would swallow the answer.
    return text if text.count("/*") == text.count("*/") and text.count('"""') % 2 == 0 else ""
