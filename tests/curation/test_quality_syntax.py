"""What does not parse is told from what a grammar cannot know: macros cost a C++ file little, lost tokens much."""

import random
import re
from itertools import islice
from pathlib import Path

import pytest

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.quality import faulty, parse_refusal
from demiurgic_jax.curation.sources import read_folder
from demiurgic_jax.curation.tree_syntax import parse

MACROS = """#pragma once
namespace box {

TYPE_TRAITS(char, short, unsigned, int);
TYPE_TRAITS(short, int, unsigned, long long);

__no_checks__
template <typename T>
class EXPORTED Tin : public Base<T> {
 public:
    template(typename I, typename S, typename P = identity)(
        requires input_iterator<I> AND sentinel_for<S, I>)
    constexpr I find(I first, S last, P proj = P{}) const {
        for (; first != last; ++first)
            if (proj(*first)) break;
        return first;
    }
};

}  // namespace box
"""
OVERLOADS = """export const take: {
  /** Of as many as are wanted. */
  (n: number): <A>(self: Box<A>) => Box<A>

  /** The same, said in one. */
  <A>(self: Box<A>, n: number): Box<A>
} = dual(2, <A>(self: Box<A>, n: number): Box<A> => self.slice(n)) // the first one
"""
SWIFT = "func broken( {{ ) }\nlet some words = of ? another -> language { in } \n"


def test_macros_that_read_like_templates_types_and_attributes_are_no_faults():
    assert faulty(MACROS, "cpp") == 0.0


def test_overloads_that_no_semicolon_ends_are_no_faults():
    assert parse(OVERLOADS.encode(), LANGUAGES["typescript"]).root.has_error is False
    assert faulty(OVERLOADS.replace("number)", "number"), "typescript") > 0


def test_a_fault_does_not_cost_what_is_whole_around_it():
    """tree-sitter calls everything from an unclosed class on one error."""
    functions = "".join(f"int f{n}(int a) {{\n  // Adds.\n  return a + {n};\n}}\n\n" for n in range(100))
    opened = f"namespace box {{\nclass Tin : public Base {{\n public:\n{functions}"
    root = parse(opened.encode(), LANGUAGES["cpp"]).root
    assert any(child.is_error and len(child.text) > 0.9 * len(opened) for child in (root, *root.children))
    assert 0 < faulty(opened, "cpp") < 0.05
    assert parse_refusal(opened, "cpp") is None
    assert parse_refusal(functions + SWIFT * 20, "cpp") == "does not parse"


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "python"])
def test_prose_and_other_languages_do_not_parse(language):
    prose = "It is told here how this is done, by whom, and what comes of it.\n\nThe end (of it) is near.\n" * 10
    assert parse_refusal(prose, language) == "does not parse"
    assert parse_refusal(SWIFT * 10, language) == "does not parse"


def _without_tokens(text: str, share: float, rng: random.Random) -> str:
    tokens = re.findall(r"\w+|\s+|[^\w\s]", text)
    return "".join(token for token in tokens if token.isspace() or rng.random() >= share)


def test_real_headers_parse_and_do_not_with_a_twentieth_of_their_tokens_lost():
    folders = sorted(Path("/usr/include/c++").glob("*"))
    files = [file.text for folder in folders for file in islice(read_folder(folder, languages=["cpp"]), 150)]
    if len(files) < 50:
        pytest.skip("no C++ headers are installed")
    rng = random.Random(0)
    kept = sum(parse_refusal(text, "cpp") is None for text in files)
    spoilt = sum(parse_refusal(_without_tokens(text, 0.05, rng), "cpp") is None for text in files)
    print(f"of {len(files)} headers {kept} parse, {spoilt} with a twentieth of their tokens lost")
    assert kept >= 0.98 * len(files)
    assert spoilt <= 0.5 * len(files)
