"""Whether a text is valid in a language that tree-sitter reads, and its tree."""

import re
from dataclasses import dataclass

import tree_sitter

from demiurgic_jax.curation.languages import Language, syntax_tree_of

# C++ before its preprocessor has run. Words in capitals that stand where no expression can are macros: alone on a
# line (with arguments or without), before another word, after a parameter list.
_CAPITALS = rb"\b_{0,2}[A-Z][A-Z0-9]*_[A-Z0-9_]*"
_ARGUMENTS = rb"\((?:[^();{}]|\((?:[^();{}]|\((?:[^();{}]|\([^();{}]*\))*\))*\))*\)"
_CONDITION = re.compile(rb"[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b[ \t]*([^\n]*)")
_DIRECTIVE = re.compile(rb"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*$", re.MULTILINE)
_COMMENTS = ("comment", "line_comment", "block_comment")
# Nodes that are worth something inside of an error.
_WHOLE = re.compile(r"(?:comment|declaration|declaration_list|_definition|_item|_statement|_specifier)$")
# range-v3 and others declare templates with requirements by macros that look like calls.
_TEMPLATE_CALL = re.compile(rb"(\btemplate\s*)\(([^(){};]*(?:\([^(){};]*\)[^(){};]*)*)\)(\s*" + _ARGUMENTS + rb")?")
_LONG_MACRO = re.compile(rb"[ \t]*#[ \t]*define\b[^\n]*\\\n")
# Signatures of a type that no semicolon ends: where the next one begins, the grammar reads on.
_SIGNATURE = re.compile(rb"^((?:(?!//)[^\n])*[\w>\])}])\n(?=\s*(?:/\*(?:(?!\*/)[\s\S])*\*/\s*)?[<(])", re.MULTILINE)
# What a grammar does not know, by language, and the letter that it is replaced with.
_UNKNOWN = {
    "cpp": (
        (re.compile(rb"^[ \t]*" + _CAPITALS + rb"(?:[ \t]*" + _ARGUMENTS + rb";?)?[ \t]*(?=$|//)", re.MULTILINE), b" "),
        (re.compile(rb"^[ \t]*__\w+__[ \t]*$", re.MULTILINE), b" "),
        (re.compile(rb"(?<=\bclass)\s+[A-Z][A-Z0-9]{3,}(?=\s+\w+\s*(?:final\s*)?[:{])"), b" "),
        (re.compile(rb"(?<=\bstruct)\s+[A-Z][A-Z0-9]{3,}(?=\s+\w+\s*(?:final\s*)?[:{])"), b" "),
        (re.compile(_CAPITALS + rb"(?:" + _ARGUMENTS + rb")?(?=\s+(?:[A-Za-z_~:]|\[\[))"), b" "),
        (
            re.compile(
                rb"(?:(?<=\))|(?<=\bconst)|(?<=\boverride)|(?<=\bnoexcept))\s+"
                + _CAPITALS
                + rb"(?:"
                + _ARGUMENTS
                + rb")?(?=\s*(?:[{;=,)]|:(?!:)))"
            ),
            b" ",
        ),
        (re.compile(rb"^[ \t]*__glibcxx_\w+" + _ARGUMENTS + rb";?[ \t]*$", re.MULTILINE), b" "),
        (re.compile(rb"(?<=\bnamespace std)\s+" + _CAPITALS + _ARGUMENTS + rb"(?=\s*\{)"), b" "),
        (re.compile(rb"\bextern(?=\s+template\b)"), b" "),
        # A statement as a macro's argument.
        (re.compile(rb"^[ \t]*" + _CAPITALS + rb"\([^{};#]*;[ \t]*\)", re.MULTILINE), b" "),
        (re.compile(rb"(?<=[)\w.])\s+" + _CAPITALS + rb"(?=\s*>)"), b" "),
        (re.compile(rb"(?<=\.\.\.)\.\.\.(?=\))"), b" "),
        (re.compile(rb"\b__(?:device|host|global|forceinline|extension|inline|restrict)(?:__)?\b"), b" "),
        # A pointer to a member as a type's argument reads like the type that it points to.
        (re.compile(rb"(?<=\w)\s+\w+::\*(?=[,>])"), b" "),
        (re.compile(rb"\b__(?=(?:try|catch)\b)"), b" "),
        (re.compile(rb"\b__(?:complex|real|imag)__\b"), b" "),
        (re.compile(rb"(?<=\bif)\s+" + _CAPITALS + rb"(?=\s*\()"), b" "),
        (re.compile(_CAPITALS + rb"\s*" + _ARGUMENTS + rb"(?=\s*\})"), b" "),
        (re.compile(rb"\[\[[^\[\]]*\]\](?=\s*friend\b)"), b" "),
        (re.compile(rb",\s*" + _CAPITALS + _ARGUMENTS + rb"(?=\s*[,>])"), b" "),
        (re.compile(rb"(?<==)\s*\{\}(?=\s*[,)])"), b"0"),
        (re.compile(rb"\*\s*=\s*nullptr(?=\s*[,>])"), b" "),
        (re.compile(rb"(?<=\bvoid)\s*\*\s*(?:/\*[^*]*\*/\s*)?=\s*(?:0|static_cast<[^<>]*>\(0\))(?=[,)])"), b" "),
        (re.compile(rb"\b__attribute__\s*" + _ARGUMENTS + rb"(?=\s*=)"), b" "),
        # A type made anew is called like a function.
        (re.compile(rb"\bdecltype\(\w+\)(?=\s?[({])"), b"f"),
        # Before a qualified name nothing is lost without it, and the grammar has it in types alone.
        (re.compile(rb"\btypename(?=\s+(?:::)?\w+(?:\s*<[^;{}()]*?>)?\s*::)"), b" "),
        # A call of an operator by its name is one of any function.
        (re.compile(rb"(?:(?<=\.)|(?<=->))operator ?(?:->|\+\+|--|\[\]|\(\)|[=!<>+*/-]=?)(?= ?\()"), b"f"),
        (re.compile(rb"(?<=[;{(])\s*operator (?=delete\()"), b" "),
        (re.compile(rb"(?<=[;{(])\s*operator(?:\+\+|--)(?=\(\))"), b"f"),
    ),
    # Variance of type parameters, newer than the grammar.
    "typescript": ((re.compile(rb"(?<=[<,])\s*(?:in\s+out|in|out)(?=\s+[A-Z])"), b" "),),
}


@dataclass(frozen=True)
class Parsed:
    """The tree and the text it was made from: `read` is the source with what the grammar does not know (macros) as
    blanks, byte for byte as long as the source."""

    root: tree_sitter.Node
    read: bytes


def parse(source: bytes, language: Language, enough: int = 0) -> Parsed:
    """The tree of UTF-8 `source`; where more than `enough` bytes of it have no place as it stands, without what the
    grammar does not know."""
    best = Parsed(syntax_tree_of(source, language).root_node, source)
    if best.root.has_error and language.name in _UNKNOWN and (fewest := unplaced(best)) > enough:
        blanked = _blanked(source, language)
        for read in (blanked, _one_branch(blanked)) if language.name == "cpp" else (blanked,):
            other = Parsed(syntax_tree_of(read, language).root_node, read)
            if (left := unplaced(other)) < fewest:
                best, fewest = other, left
            if fewest <= enough:
                break
    return best


def parses_tree(text: str, language: Language) -> bool:
    try:
        source = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return b"\0" not in source and not parse(source, language).root.has_error


def faulty_share(text: str, language: Language, enough: float = 0.0) -> float:
    """Of the bytes of `text`, blanks aside, those that the grammar cannot place; 1 where it is no text. Where they are
    more than `enough`, macros are read as blanks, and the least of it is said."""
    try:
        source = text.encode()
    except UnicodeEncodeError:
        return 1.0
    size = max(_visible(source), 1)
    return min(1.0, unplaced(parse(source, language, int(enough * size))) / size)


def unplaced(parsed: Parsed) -> int:
    """Bytes, blanks aside, that the grammar has no place for; a missing token counts as one.

    A parser that lost its way may call the rest of a file one error. Comments, and declarations and statements that it
    found whole inside of it, are placed nevertheless.
    """
    total, stack = 0, [parsed.root]
    while stack:
        node = stack.pop()
        if node.is_missing:
            total += 1
        elif node.is_error:
            start, lost = node.start_byte, 0
            for child in node.children:
                if _WHOLE.search(child.type) and (child.child_count or child.type in _COMMENTS):
                    lost += _visible(parsed.read[start : child.start_byte])
                    start = child.end_byte
                    if child.has_error:
                        stack.append(child)
            total += max(lost + _visible(parsed.read[start : node.end_byte]), 1)
        elif node.has_error:
            stack.extend(node.children)
    return total


def _visible(text: bytes) -> int:
    return len(text) - sum(map(text.count, (b" ", b"\t", b"\n")))


def _blanked(source: bytes, language: Language) -> bytes:
    if language.name == "cpp":
        source = _TEMPLATE_CALL.sub(_template, source)
    elif language.name == "typescript":
        source = _SIGNATURE.sub(rb"\1;", source)
    blanked = bytearray(source)
    for pattern, letter in _UNKNOWN[language.name]:
        for match in pattern.finditer(bytes(blanked)):
            blanked[match.start() : match.end()] = re.sub(rb"\S", letter, match[0])
    if language.name == "cpp":
        for match in _DIRECTIVE.finditer(source):
            # Nobody parses a macro's body, but comments in one that goes over several lines lead astray.
            text = re.sub(rb"\S", b" ", match[0]) if _LONG_MACRO.match(match[0]) else match[0]
            blanked[match.start() : match.end()] = text
    return bytes(blanked)


def _template(call: re.Match[bytes]) -> bytes:
    return call[1] + b"<" + call[2] + b">" + re.sub(rb"\S", b" ", call[3] or b"")


def _one_branch(source: bytes) -> bytes:
    """C++ with the first branch of every conditional alone (of `#if 0` the second), the rest as blanks: a grammar
    cannot follow a statement that begins in two branches and ends behind both."""
    lines = source.splitlines(keepends=True)
    branches: list[list[bool]] = []  # of each open conditional: whether this branch is read, whether one was
    for number, line in enumerate(lines):
        condition = _CONDITION.match(line)
        if condition:
            word, rest = condition[1], condition[2].strip()
            if word.startswith(b"if"):
                taken = not (word == b"if" and rest.split(b"//")[0].strip() == b"0")
                branches.append([taken, taken])
            elif branches and word == b"endif":
                branches.pop()
            elif branches:
                branches[-1] = [not branches[-1][1], True]
        if condition or not all(taken for taken, _ in branches):
            lines[number] = re.sub(rb"\S", b" ", line)
    return b"".join(lines)
