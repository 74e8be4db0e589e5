"""Complete: the beginning of a function goes to the teacher, or what stands around a gap in it."""

import ast
import random
import textwrap
from collections.abc import Iterator, Sequence

import tree_sitter

from demiurgic_jax.curation.code import definitions, parses
from demiurgic_jax.curation.definition import Definition, PieceKind
from demiurgic_jax.curation.languages import is_comment, language_named, syntax_tree_of
from demiurgic_jax.curation.python_code import syntax_tree
from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.distillation.tasks.answers import code_in, fenced, useless
from demiurgic_jax.distillation.tasks.behaviour import last_name
from demiurgic_jax.distillation.tasks.checks import Check, run_checks
from demiurgic_jax.distillation.tasks.functions import first_line, function_named
from demiurgic_jax.distillation.tasks.prompts import NAMES, SYSTEM
from demiurgic_jax.distillation.tasks.task import Kept, Manner, Question, Rejected, Task, Turn, ask_user

_GAP = "<FILL_IN>"
_STOPS = {
    "python": ("\ndef ", "\nclass ", "\n@", "\n```"),
    "rust": ("\n}\n", "\n```"),
}
_LINE_COMMENTS = {"python": "#"}


class Complete(Task):
    """Left to right, the prompt is signature, documentation and up to half of the body, as raw text; what is kept ends
    with a whole line. A gap is one or more whole statements, asked about in a chat and learnt as fill-in-the-middle."""

    name = "complete"

    def build(self, seed: Seed, draw: random.Random, manner: Manner) -> Question | None:
        found = _single(seed)
        function = function_named(seed.code, seed.name, seed.language) if found else None
        if found is None or function is None or function.stub:
            return None
        if manner.prompts == "styled" and draw.random() < 0.5:
            return _gap_question(seed, found, draw)
        lines = seed.code.splitlines(keepends=True)
        body_lines = len(lines) - found.body_line - (seed.language != "python")  # the last line closes the brace
        if body_lines < 2 or found.body_line == 0:
            return None
        given = found.body_line + draw.randint(0, body_lines // 2)
        # No line end behind it: with the next line's indent that is often one token, which must not be cut in two.
        stop = _STOPS.get(seed.language, ("\n}\n", "\n```"))
        return Question(prompt="".join(lines[:given]).rstrip(), stop=stop)

    def judge(self, seed: Seed, turns: Sequence[Turn], check: Check) -> Kept | Rejected:
        (turn,) = turns
        if reason := useless(turn.answer.text):
            return Rejected(reason)
        return self._gap(seed, turn, check) if turn.request.prompt is None else self._behind(seed, turn, check)

    def _behind(self, seed: Seed, turn: Turn, check: Check) -> Kept | Rejected:
        prompt, text = turn.asked, turn.answer.text
        if turn.answer.finish_reason == "stop" and seed.language != "python":
            # The stop string took the brace that closes the function with it.
            whole = text.rstrip() + "\n}"
            text = whole if _parses(prompt + whole, seed) and not _parses(prompt + text, seed) else text
        kept = _whole_lines(prompt, text, seed)
        if kept is None:
            return Rejected("does not parse")
        if check == "behaviour":
            kept = _to_its_end(prompt, kept, seed)
        comment = _LINE_COMMENTS.get(seed.language, "//")
        lines = [line.strip() for line in kept.splitlines()]
        if not any(line and not line.startswith(comment) and line != "}" for line in lines):
            return Rejected("adds no code")
        # One that was cut off is not to be judged by what the whole would do.
        cut = turn.answer.finish_reason == "length" and check == "behaviour"
        tests = run_checks(seed, prompt + kept, "examples" if cut else check)
        return Rejected("tests failed") if tests == "failed" else Kept(kept, {"syntax": "parses", "tests": tests})

    def _gap(self, seed: Seed, turn: Turn, check: Check) -> Kept | Rejected:
        prefix, _, suffix = (code_in(turn.asked, seed.language) or "").partition(_GAP)
        middle = code_in(turn.answer.text, seed.language)
        if middle is None:
            return Rejected("no code")
        if not middle.strip():
            return Rejected("adds no code")
        if first_line(seed) in middle or _defines(middle, seed):
            return Rejected("not the gap alone", "the answer begins the function again")
        middle = next((each for each in _fitted(prefix, middle) if _parses(prefix + each + suffix, seed)), "")
        if not middle:
            return Rejected("does not parse")
        whole = prefix + middle + suffix
        tests = run_checks(seed, whole, check)
        if tests == "failed":
            return Rejected("tests failed")
        return Kept(middle, {"syntax": "parses", "tests": tests}, fill=(prefix, suffix))


def _single(seed: Seed) -> Definition | None:
    """The one definition that a seed of a function is."""
    if seed.kind not in ("function", "method"):
        return None
    before, after = language_named(seed.language).method_frame if seed.kind == "method" else ("", "")
    for code in (seed.code, before + seed.code + after):
        found = [each for each in definitions(code, seed.language) if each.kind != "class"]
        if len(found) == 1 and found[0].code == seed.code:
            return found[0]
    return None


def _defines(middle: str, seed: Seed) -> bool:
    """Whether the function is begun again in its own gap."""
    try:
        return function_named(textwrap.dedent(middle), seed.name, seed.language) is not None
    except SyntaxError:
        return False


def _to_its_end(prompt: str, kept: str, seed: Seed) -> str:
    """`kept` without what stands behind the function: examples of its use, mostly."""
    whole = prompt + kept
    found = [each for each in definitions(whole, seed.language) if last_name(each.name) == last_name(seed.name)]
    end = found[0].end_line if found else whole.count("\n")
    return "".join(whole.splitlines(keepends=True)[:end])[len(prompt) :] or kept


def _parses(text: str, seed: Seed) -> bool:
    return parses(text, seed.language, kind=_piece(seed))


def _piece(seed: Seed) -> PieceKind | None:
    return None if seed.kind == "file" else seed.kind


def _whole_lines(prompt: str, text: str, seed: Seed) -> str | None:
    """The longest beginning of `text`, in whole lines, that parses behind `prompt`: what a cut-off end leaves."""
    lines = text.rstrip().splitlines(keepends=True)
    for count in range(len(lines), 0, -1):
        kept = "".join(lines[:count]).rstrip()
        if _parses(prompt + kept, seed):
            return kept + "\n"
    return None


def _fitted(prefix: str, middle: str) -> Iterator[str]:
    """`middle` as it can stand behind `prefix`, which holds the indent of its first line: as it is, and indented."""
    middle = middle.strip("\n").rstrip()
    yield middle.lstrip()
    indent = prefix[prefix.rfind("\n") + 1 :]
    yield textwrap.indent(textwrap.dedent(middle), indent).lstrip()


def _gap_question(seed: Seed, found: Definition, draw: random.Random) -> Question | None:
    spans = _statements(seed, found)
    if not spans:
        return None
    start, end = draw.choice(spans)
    gapped = seed.code[:start] + _GAP + seed.code[end:]
    return ask_user(
        f"A part of this {NAMES[seed.language]} code is missing, where it says {_GAP}. Answer with one code block that "
        f"holds the missing part and nothing else.\n\n{fenced(gapped, seed.language)}",
        SYSTEM["complete"],
    )


def _statements(seed: Seed, found: Definition) -> list[tuple[int, int]]:
    """Spans (characters) of whole statements in the body: syntax nodes that fill their lines, but not all of it."""
    spans = set()
    for start, end in _python_nodes(seed.code) if seed.language == "python" else _tree_nodes(seed):
        if start < found.body_start or end > found.body_end:
            continue
        line = seed.code.rfind("\n", 0, start) + 1
        rest = seed.code[end : (seed.code + "\n").find("\n", end)]
        fills = not seed.code[line:start].strip() and not rest.strip(" ;")
        if fills and 8 < end - start < 0.8 * (found.body_end - found.body_start):
            spans.add((start, end + len(rest.rstrip())))
    return sorted(spans)


def _python_nodes(code: str) -> Iterator[tuple[int, int]]:
    lines = code.splitlines(keepends=True)

    def offset(line: int, column: int) -> int:
        return sum(map(len, lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())

    for node in ast.walk(syntax_tree(code)):
        if isinstance(node, ast.stmt) and node.end_lineno and node.end_col_offset:
            yield offset(node.lineno, node.col_offset), offset(node.end_lineno, node.end_col_offset)


def _tree_nodes(seed: Seed) -> Iterator[tuple[int, int]]:
    known = language_named(seed.language)
    before, after = known.method_frame if seed.kind == "method" else ("", "")
    source = (before + seed.code + after).encode("utf-8", "surrogatepass")
    stack: list[tree_sitter.Node] = [syntax_tree_of(source, known).root_node]
    while stack:
        node = stack.pop()
        stack.extend(node.named_children)
        if not is_comment(node) and not node.type.endswith("block"):
            ends = (len(source[:at].decode("utf-8", "surrogatepass")) for at in (node.start_byte, node.end_byte))
            start, end = (each - len(before) for each in ends)
            yield start, end
