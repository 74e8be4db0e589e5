"""demiurgic-mini's candidates: the code that is run for a row and a model's answer, and how many tokens it has."""

import re
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]  # a line of mini/LANGUAGE.jsonl; its README says what is in it

_COMMENT = r"|(?P<comment>//[^\n]*|/\*[\s\S]*?\*/)"
_QUOTED = r'"(?:\\.|[^"\\\n])*"'
_SINGLY_QUOTED = _QUOTED.replace('"', "'")
_LETTER = r"'(?:\\[^\n]+?|[^'\\\n])'"  # in Rust a single quote alone begins a lifetime
_LONG = r'"""[\s\S]*?"""|' + r"'''[\s\S]*?'''"
_TEMPLATE = r"`(?:\\[\s\S]|[^`\\])*`"
_LEXEMES = {
    "python": rf"(?P<string>[rbfRBF]{{0,2}}(?:{_LONG}|{_QUOTED}|{_SINGLY_QUOTED}))|(?P<comment>#[^\n]*)",
    "script": rf"(?P<string>{_QUOTED}|{_SINGLY_QUOTED}|{_TEMPLATE}){_COMMENT}",
    "braces": rf"(?P<string>{_QUOTED}|{_LETTER}|{_TEMPLATE}){_COMMENT}",
}
_WORD = r"|(?P<word>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\w*|\w+)|(?P<sign>[^\s\w])"
_DOCSTRING = re.compile(r'(:[ \t]*\n[ \t]*)(?:"""[\s\S]*?"""|"[^"\n]*")[ \t]*(?=\n)')
_JAVA_CLASS = re.compile(r"^(?:public\s+|final\s+|abstract\s+)*(?:class|record|interface|enum)\s+(\w+)", re.MULTILINE)


def _lexer(language: str) -> re.Pattern[str]:
    kind = {"python": "python", "javascript": "script", "typescript": "script"}.get(language, "braces")
    return re.compile(_LEXEMES[kind] + _WORD)


def count_tokens(code: str, language: str) -> int:
    """Names, numbers, strings and signs of `code`; a string is one token, and comments and docstrings are none."""
    if language == "python":
        code = _DOCSTRING.sub(r"\1", code)
    return sum(found.lastgroup != "comment" for found in _lexer(language).finditer(code))


def complete_answer(row: Row, answer: str) -> str:
    """`answer` to a complete problem, cut where the function ends; all of it where a suffix follows."""
    if row["suffix"]:
        return answer
    if row["language"] == "python":
        end = re.search(r"\n(?=[^\s#])", answer)
        return answer[: end.start() + 1] if end else answer
    depth = 0
    # The code is read too: the answer may begin inside a string or a bracket of it.
    for found in _lexer(row["language"]).finditer(row["code"] + answer):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth == 0 and found[0] == "}" and found.end() > len(row["code"]):
            return answer[: found.end() - len(row["code"])] + "\n"
    return answer


def candidate(row: Row, answer: str) -> str:
    """The code that is tested: `answer` with what stands around it.

    For explain, `answer` is the function that was written from the explanation.
    """
    if row["skill"] == "complete":
        answer = row["code"] + complete_answer(row, answer) + row["suffix"]
    if row["language"] == "java" and not _JAVA_CLASS.search(answer):
        imports = re.findall(r"^import\s[^;]*;", answer, re.MULTILINE)
        body = re.sub(r"^import\s[^;]*;", "", answer, flags=re.MULTILINE)
        answer = "\n".join([*imports, f"class Solution {{\n{body}\n}}\n"])
    brings_its_own = row["language"] == "go" and re.match(r"\s*package\s", answer)
    return answer if brings_its_own or not row["context"] else f"{row['context']}\n{answer}"


def java_class(code: str) -> str:
    """The class whose static methods the tests call: the first that `code` declares at the left margin."""
    found = _JAVA_CLASS.search(code)
    return found[1] if found else "Solution"


def is_simpler(row: Row, answer: str) -> bool:
    """Whether an answer to a refactor problem has fewer tokens than the code that it was made from."""
    return count_tokens(answer, row["language"]) < count_tokens(row["code"], row["language"])
