"""demiurgic-mini as a benchmark: five skills in seven languages, read from the package (see mini/README.md)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from demiurgic_jax.curation.jsonl import read_jsonl
from demiurgic_jax.evaluation.benchmark import EXPLANATION, Form, Problem, Question, Retelling, Trial
from demiurgic_jax.evaluation.extraction import code_of
from demiurgic_jax.evaluation.mini_candidates import Row, candidate, is_simpler
from demiurgic_jax.evaluation.mini_tests import write_tests
from demiurgic_jax.sandbox.toolchains import LANGUAGES

MINI = Path(__file__).with_name("mini")

_NAMES = {
    "python": "Python",
    "javascript": "JavaScript",
    "typescript": "TypeScript",
    "go": "Go",
    "rust": "Rust",
    "java": "Java",
    "cpp": "C++",
}
# A raw completion of a whole function is asked for inside a fence, and ends with it.
_FENCE_STOPS = ("\n```",)
_ASK = {
    "generate": "Write this {name} function. {request}",
    "explain": "Explain what this {name} function does, so exactly that it can be written again from your words alone.",
    "fix": "This {name} function has a bug. {request} Correct it.",
    "refactor": "Make this {name} function simpler and shorter without changing what it does.",
}


@dataclass(frozen=True)
class MiniJudging:
    """`row` is a line of mini/LANGUAGE.jsonl."""

    row: Row

    def trial(self, answer: str, form: Form) -> Trial:
        row = self.row
        code = answer
        if form == "chat" or row["skill"] != "complete":
            code = code_of(answer, row["language"], row["entry"])
        if row["skill"] == "complete" and form == "chat":
            # In a chat the answer is the whole function.
            whole = candidate({**row, "skill": "generate"}, code)
            return Trial(whole, write_tests(row, whole))
        program = candidate(row, code)
        longer = row["skill"] == "refactor" and not is_simpler(row, code)
        return Trial(program, write_tests(row, program), refused="it is not shorter than before" if longer else "")


def mini_files(folder: Path = MINI) -> dict[str, str]:
    """The files that are there, by language, with their SHA-256 (hex)."""
    paths = {language: folder / f"{language}.jsonl" for language in LANGUAGES}
    return {
        language: hashlib.sha256(path.read_bytes()).hexdigest() for language, path in paths.items() if path.exists()
    }


def mini_problems(languages: tuple[str, ...] = LANGUAGES, folder: Path = MINI) -> list[Problem]:
    """The problems of the languages whose file is in `folder`."""
    there = [language for language in languages if (folder / f"{language}.jsonl").exists()]
    return [_problem(row) for language in there for _, row in read_jsonl(folder / f"{language}.jsonl")]


def _problem(row: Row) -> Problem:
    return Problem(
        id=row["id"],
        language=row["language"],
        skill=row["skill"],
        question=_question(row),
        judging=MiniJudging(row),
        canonical=row["code"] if row["skill"] == "explain" else row["reference"],
        buggy=row["code"] if row["skill"] == "fix" else None,
        retelling=_retelling(row) if row["skill"] == "explain" else None,
    )


def _question(row: Row) -> Question:
    if row["skill"] == "complete":
        return _complete(row)
    task = _ASK[row["skill"]].format(name=_NAMES[row["language"]], request=row["request"]).replace("  ", " ")
    if row["skill"] == "explain":
        asked = f"{task}\n\n{_fenced(row, row['code'])}"
        return Question(f"{asked}\n\nIt", asked, ("\n```", "\n\n\n"))
    code = row["signature"] if row["skill"] == "generate" else row["code"]
    return _for_code(row, f"{task}\n\n{_fenced(row, row['context'] + code)}")


def _complete(row: Row) -> Question:
    """Fill-in-the-middle where the row has a suffix; a chat answers with the whole function."""
    before, after = row["context"] + row["code"], row["suffix"]
    hole = f"{before}<FILL>{after}" if after else before
    what = "Fill <FILL> in" if after else "Complete"
    chat = f"{what} this {_NAMES[row['language']]} code. Answer with the whole code in one code block.\n\n"
    return Question(before, chat + _fenced(row, hole), (), after or None)


def _retelling(row: Row) -> Retelling:
    task = (
        f"Write this {_NAMES[row['language']]} function. {EXPLANATION}\n\n"
        f"{_fenced(row, row['context'] + row['signature'])}"
    )
    return Retelling(_for_code(row, task), row["code"])


def _for_code(row: Row, asked: str) -> Question:
    """A question that is answered with a whole function."""
    fence = f"```{row['language']}\n"
    return Question(
        f"{asked}\n\n{fence}", f"{asked}\n\nAnswer with the whole function in one code block.", _FENCE_STOPS
    )


def _fenced(row: Row, code: str) -> str:
    return f"```{row['language']}\n{code.rstrip()}\n```"
