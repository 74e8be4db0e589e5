"""Code out of what a model wrote: fenced blocks of a chat answer, and the end of a raw completion."""

import re
from collections.abc import Sequence

from demiurgic_jax.sandbox.verdict import Language

# A closing fence may be missing, where the answer was cut off.
_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_TAGS: dict[str, tuple[str, ...]] = {
    "python": ("python", "py", "python3"),
    "javascript": ("javascript", "js", "node"),
    "typescript": ("typescript", "ts"),
    "go": ("go", "golang"),
    "rust": ("rust", "rs"),
    "java": ("java",),
    "cpp": ("cpp", "c++", "cxx", "cc", "c"),
}
_DEFINES: dict[str, str] = {
    "python": r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+{name}\b|^{name}[ \t]*=",
    "javascript": r"\bfunction\s*\*?\s*{name}\b|\b(?:const|let|var|class)\s+{name}\b|^\s*{name}\s*=",
    "typescript": r"\bfunction\s*\*?\s*{name}\b|\b(?:const|let|var|class)\s+{name}\b|^\s*{name}\s*=",
    "go": r"^func\s+(?:\([^)]*\)\s*)?{name}\b",
    "rust": r"\bfn\s+{name}\b",
    # A type before the name, so that a call is no definition.
    "java": r"[\w>\]]\s+{name}\s*\([^;{{]*\)[^;{{]*\{{",
    "cpp": r"[\w>*&]\s+[*&]?\s*{name}\s*\([^;{{]*\)[^;{{]*\{{",
}


def code_of(answer: str, language: Language, name: str | None = None) -> str:
    """The code of a chat answer: the first fenced block that defines `name`; else the first in `language`, else the
    first of all. Without a fence, the answer itself."""
    blocks = [(found[2].lower(), found[3]) for found in _FENCE.finditer(answer)]
    if not blocks:
        return answer
    if name is not None:
        for _, code in blocks:
            if defines(code, name, language):
                return code
    return next((code for tag, code in blocks if tag in _TAGS[language]), blocks[0][1])


def defines(code: str, name: str, language: Language) -> bool:
    """Whether `code` defines a function (or class) called `name`, judged by the look of it."""
    return re.search(_DEFINES[language].format(name=re.escape(name)), code, re.MULTILINE) is not None


def cut_at(text: str, stops: Sequence[str]) -> str:
    """`text` before the first of `stops`. Servers differ in whether they keep or honour them."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def cut_after_block(text: str, language: Language, open_braces: int = 1) -> str:
    """`text`, which continues a function, up to the function's end.

    Python: before the first line that is neither blank nor indented. Elsewhere: up to the brace that closes the last
    of `open_braces`, braces counted wherever they stand, as HumanEvalPack's harness does.
    """
    if language == "python":
        lines = text.split("\n")
        for place, line in enumerate(lines):
            if line.strip() and not line[0].isspace():
                return "\n".join(lines[:place])
        return text
    depth = open_braces
    for place, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return text[: place + 1]
    return text
