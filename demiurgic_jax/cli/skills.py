"""How the command asks for a skill: the words that students were trained with."""

_INSTRUCTIONS = {
    "explain": "Explain in a few sentences what this Python code does.",
    "fix": "This Python function has a bug. Answer with the fixed code only.",
    "refactor": "Rewrite this Python function so that it is simpler and does the same. Answer with the code only.",
}
SKILLS = tuple(_INSTRUCTIONS)


def skill_prompt(skill: str, code: str) -> str:
    """The user's message that asks for `skill` on `code`."""
    return f"{_INSTRUCTIONS[skill]}\n\n```python\n{code.rstrip()}\n```"
