"""The code out of a chat answer, or a refusal: half a file must never take the place of a whole one."""

import ast
import difflib
import re
from dataclasses import dataclass

from demiurgic_jax.cli.languages import Language

# CommonMark: at least three marks; a fence of backquotes has none behind them.
_OPENING = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<tag>[^\s`]*)[^`\n]*$")
# "... rest of the code unchanged" in a comment stands for code that the answer leaves out.
_ELISION = re.compile(
    r"^\s*(?:#|//|--|/\*|<!--|;)\s*(?:(?:\.\.\.|…)|.*\b(?:rest|remainder) of the (?:code|file|function|class)\b"
    r"|.*\b(?:existing|previous|original|remaining) code\b|.*\b(?:unchanged|as before|same as before)\b)",
    re.IGNORECASE,
)
# What models that reason aloud say first.
_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_CODE_LINE = re.compile(r"^(?:\s{2,}\S|\t)|[;{}()\[\],:=]\s*$|^\s*(?:#|//|/\*|\*|--|@)|[=({]")


class NoCodeError(Exception):
    """The answer holds no code that could take the place of the question's; the text says why, and the mend."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its tag in lower case, its text, and whether its fence was closed."""

    tag: str
    code: str
    closed: bool


def fenced_blocks(answer: str) -> list[Block]:
    """The blocks in order. A fence within a longer fence, or of the other mark, is a part of the block."""
    blocks: list[Block] = []
    fence, tag, indent = "", "", ""
    inside: list[str] = []
    for line in answer.splitlines(keepends=True):
        bare = line.strip()
        if fence:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                blocks.append(Block(tag, "".join(inside), closed=True))
                fence = ""
            else:
                inside.append(line.removeprefix(indent))
        elif opening := _OPENING.match(line.rstrip("\n")):
            fence, tag, indent, inside = opening["fence"], opening["tag"].lower(), opening["indent"], []
    if fence:
        blocks.append(Block(tag, "".join(inside), closed=False))
    return blocks


def code_of(answer: str, finish_reason: str, language: Language, original: str, *, rewrites: bool = True) -> str:
    """The code in `language` that an answer gives for `original`.

    Of several blocks it is the one most like the original but not the original itself, which a model may quote first;
    with `rewrites` false (a translation) the longest. Raises NoCodeError for an answer that was cut off, has no code,
    leaves parts of it out, or gives Python that does not parse for Python that does.
    """
    if finish_reason == "length":
        raise NoCodeError("the answer was cut off at the most tokens allowed: give more with -o max_tokens=N")
    answer = _THOUGHTS.sub("", answer)
    blocks = [block for block in _blocks(answer, original) if block.code.strip()]
    if not blocks:
        code = answer
        if not _looks_like_code(code, language):
            raise NoCodeError("the answer has no code block: ask again, or see it with --raw")
    else:
        tagged = [block for block in blocks if block.tag in language.tags] or [b for b in blocks if not b.tag] or blocks
        block = _most_like(tagged, original) if rewrites else max(tagged, key=lambda each: len(each.code))
        if not block.closed:
            raise NoCodeError("the answer's code block has no end, so it may be half of the code: ask again")
        code = block.code
    if missing := _left_out(code, original):
        raise NoCodeError(f"the answer leaves code out where it says {missing!r}: ask again, or for fewer --lines")
    if language.name == "Python" and not _parses(code) and (not rewrites or _parses(original)):
        raise NoCodeError("the answer's code is not valid Python: ask again, or see it with --raw")
    return code


def _blocks(answer: str, original: str) -> list[Block]:
    blocks = fenced_blocks(answer)
    if len(blocks) > 1 and any(line.lstrip().startswith("```") for line in original.split("\n")):
        # The code has fences of its own: what ends the block is the last fence of the answer.
        before, first, after = re.split(r"^([ \t]*```.*\n)", answer, maxsplit=1, flags=re.MULTILINE)
        body, fence, _ = after.rpartition("\n```")
        longer = first.strip().strip("`").strip().lower()
        return [Block(longer, body + "\n", closed=bool(fence))] if not before.strip() else blocks
    return blocks


def _most_like(blocks: list[Block], original: str) -> Block:
    lines = original.split("\n")

    def likeness(block: Block) -> tuple[bool, float]:
        same = block.code.strip() == original.strip()
        return not same, difflib.SequenceMatcher(None, lines, block.code.split("\n"), autojunk=False).ratio()

    return max(blocks, key=likeness)


def _left_out(code: str, original: str) -> str | None:
    known = {line.strip() for line in original.split("\n")}
    lines = (line.strip() for line in code.split("\n"))
    return next((line for line in lines if _ELISION.match(line) and line not in known), None)


def _looks_like_code(text: str, language: Language) -> bool:
    if language.name == "Python":
        # A sentence in one word, like "Done", parses too.
        return _parses(text) and any(not isinstance(node, ast.Expr) for node in ast.parse(text).body)
    lines = [line for line in text.split("\n") if line.strip()]
    return bool(lines) and sum(_CODE_LINE.search(line) is not None for line in lines) * 2 > len(lines)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
