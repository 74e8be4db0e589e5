"""The words of the questions. `plain` prompts are one short sentence, for small teachers; `styled` ones have a system
prompt, and spread difficulty and style over the requests.

Whoever changes a text here raises VERSION of its task: requests whose text is another are asked anew, the others keep
their answers, and examples say of which version they are.
"""

import random
from typing import Literal

Prompts = Literal["plain", "styled"]

VERSION = {"complete": 2, "generate": 2, "explain": 2, "fix": 2, "refactor": 2, "translate": 1}

NAMES = {
    "python": "Python", "javascript": "JavaScript", "typescript": "TypeScript", "go": "Go", "rust": "Rust",
    "java": "Java", "cpp": "C++",
}  # fmt: skip

_CONDUCT = (
    "You are a senior software engineer who writes teaching material. You are exact: code that you write runs as it "
    "stands, uses the standard library alone, and invents no functions. "
)
SYSTEM = {
    "complete": _CONDUCT + "You fill a gap in code so that it fits what stands around it.",
    "generate": _CONDUCT + "You invent small programming exercises and solve them.",
    "explain": _CONDUCT + "You explain code so well that a reader could write it again without seeing it.",
    "fix": _CONDUCT + "You find defects, name their cause, and repair nothing else.",
    "refactor": _CONDUCT + "You make code simpler and never change what it does.",
    "translate": _CONDUCT + "You carry code over to other languages, in the manner of the new language.",
}

# How the code of an answer is to be given; drawn for each request.
CODE_STYLES = (
    "Answer with one code block and nothing else.",
    "Answer with one code block; comment what is not obvious.",
    "Say in a sentence or two how you go about it, then give one code block.",
    "Give one code block first, then two sentences on why it is right.",
)
AUDIENCES = (
    "Explain in a few sentences what this {language} code does.",
    "Explain this {language} code step by step to somebody who has just learnt the language.",
    "Explain this {language} code to a colleague who will review it: what it does, its corner cases and its cost.",
    "Describe what this {language} code gives for every kind of input, so exactly that it could be written again.",
)
DIFFICULTIES = (
    "It should take a beginner ten minutes.",
    "It should take a practised programmer ten minutes.",
    "It should need a data structure or an algorithm, and some thought about corner cases.",
)
# In depth, an exercise keeps its subject and becomes harder; in breadth, it goes to another one (Xu et al. 2023,
# WizardLM, arXiv:2304.12244).
EVOLUTIONS = (
    "Keep its subject and ask for one thing more than this code does.",
    "Keep its subject and add a constraint that rules out the simplest solution.",
    "Keep its subject, but make wrong or unusual input part of the exercise.",
    "Use the same technique on another subject that has nothing to do with this code.",
    "Take another subject of the same difficulty, that a colleague of its author could have worked on.",
)


def version(task: str, prompts: Prompts) -> str:
    """The name of a task's prompts, e.g. "fix-styled-2"."""
    return f"{task}-{prompts}-{VERSION.get(task, 1)}"


def code_style(draw: random.Random) -> str:
    """How code is asked for."""
    return draw.choice(CODE_STYLES)
