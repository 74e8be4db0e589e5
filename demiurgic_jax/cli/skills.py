"""How the command asks for a skill: the words that students were trained with."""

from demiurgic_jax.cli.languages import Language

_INSTRUCTIONS = {
    "explain": "Explain in a few sentences what this {source}code does.",
    "fix": "This {source}function has a bug. Answer with the fixed code only.",
    "refactor": "Rewrite this {source}function so that it is simpler and does the same. Answer with the code only.",
    "translate": "Translate this {source}function to {target}. Keep its name, in the manner of {target}, and its "
    "parameters. Answer with the code only.",
}
# A token of code is three to four characters; an answer may be longer than its question, and stands in a fence.
_CHARACTERS_PER_TOKEN = 2
_SPARE_TOKENS = 256


def skill_prompt(skill: str, code: str, language: Language, target: Language | None = None, wish: str = "") -> str:
    """The user's message that asks for `skill` on `code`; `wish` is what the user says besides."""
    source = f"{language.name} " if language.name else ""
    instruction = _INSTRUCTIONS[skill].format(source=source, target=target.name if target else "")
    more = f" {wish.strip()}" if wish.strip() else ""
    fence = "`" * max(3, _longest_run(code) + 1)
    return f"{instruction}{more}\n\n{fence}{language.tags[0]}\n{code.rstrip()}\n{fence}"


def answer_tokens(code: str) -> int:
    """How long an answer may be that holds `code` again, in tokens."""
    return _SPARE_TOKENS + len(code) // _CHARACTERS_PER_TOKEN


def _longest_run(code: str) -> int:
    """Of backquotes at the beginning of a line, which would end a fence of as many."""
    lines = (line.strip() for line in code.splitlines())
    return max((len(line) - len(line.lstrip("`")) for line in lines), default=0)
