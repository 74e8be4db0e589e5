"""Definitions of seven languages: exact source, with its documentation and its body, from real code too."""

import random
from itertools import islice
from pathlib import Path

import pytest

from demiurgic_jax.curation.code import begins_program, definitions, imports, parses
from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.recognition import language_of
from demiurgic_jax.curation.sources import read_folder
from demiurgic_jax.errors import UserError

SOURCES = {
    "python": ('import os\nfrom . import near\n\n\ndef add(a, b):\n    """Adds."""\n    return a + b\n', "import os\n"),
    "javascript": (
        "import fs from 'fs';\nimport near from './near';\n\n/** Adds. */\nexport function add(a, b) {\n  return a +"
        " b;\n}\n"
        "\nclass Box {\n  // Opens.\n  open() {\n    return `\n  kept`;\n  }\n}\nexports.late = (x) => {\n  return"
        " x;\n};\n",
        "import fs from 'fs';\n",
    ),
    "typescript": (
        "import fs from 'fs';\n\n// Adds.\nexport const add = (a: number, b: number): number => {\n  return a + b;\n"
        "};\n\n"
        "export interface Box<out T> {\n  open(): T;\n}\nexport class Tin<T> {\n  open(): T { return this.x; }\n}\n",
        "import fs from 'fs';\n",
    ),
    "go": (
        'package box\n\nimport "fmt"\n\n// Add adds.\nfunc Add(a, b int) int {\n\treturn a + b\n}\n\ntype Box struct'
        ' {\n\tn int\n'
        "}\n\n// Open opens.\nfunc (b *Box) Open() {\n\tfmt.Println(b.n)\n}\n",
        'import "fmt"\n',
    ),
    "rust": (
        "use std::fmt;\nuse crate::near;\n\n/// Adds.\n#[inline]\npub fn add(a: u32, b: u32) -> u32 {\n    a + b\n}\n\n"
        "pub struct Tin {\n    n: u32,\n}\n\nimpl Tin {\n    /// Opens.\n    fn open(&self) -> u32 {\n       "
        " self.n\n    }\n}\n",
        "use std::fmt;\n",
    ),
    "java": (
        "package box;\n\nimport java.util.List;\n\npublic class Box {\n    /** Adds. */\n    @Override\n    public"
        " int add(int a, int b) {\n"
        "        return a + b;\n    }\n\n    Box() {\n        super();\n    }\n}\n",
        "import java.util.List;\n",
    ),
    "cpp": (
        '#include <vector>\n#include "near.h"\n\nnamespace box {\n\n// Adds.\ntemplate <typename T>\nMY_INLINE T'
        ' add(T a, T b) MY_NOEXCEPT {\n'
        "  return a + b;\n}\n\nclass Tin {\n public:\n  MY_API\n  explicit Tin(int n) : n_(n) { check(); }\n  int"
        " n_;\n};\n\n}\n",
        "#include <vector>\n",
    ),
}  # fmt: skip
NAMES = {
    "python": ["add"],
    "javascript": ["add", "Box", "Box.open", "exports.late"],
    "typescript": ["add", "Box", "Tin", "Tin.open"],
    "go": ["Add", "Box", "Box.Open"],
    "rust": ["add", "Tin", "Tin", "Tin::open"],
    "java": ["Box", "Box.add", "Box.Box"],
    "cpp": ["box::add", "box::Tin", "box::Tin::Tin"],
}

# Standard libraries and system headers, where a distribution has put them.
REAL = {
    "javascript": ["/usr/share/nodejs", "/usr/lib/node_modules", "/usr/share/javascript"],
    "typescript": ["/usr/share/nodejs", "/usr/lib/node_modules"],
    "go": ["/usr/share/go-*/src", "/usr/lib/go-*/src", "/usr/local/go/src"],
    "rust": ["/usr/share/cargo/registry", "/usr/lib/rustlib/src", "/usr/src/rustc-*/library/std"],
    "java": ["/usr/share/java-sources", "/usr/lib/jvm/*/src"],
    "cpp": ["/usr/include/c++"],
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_definitions_are_exact_source_with_documentation_and_body(language):
    source, needed = SOURCES[language]
    found = definitions(source, language)
    assert [each.name for each in found] == NAMES[language]
    lines = source.splitlines()
    for each in found:
        cut = lines[each.start_line - 1 : each.end_line]
        assert [line.strip() for line in each.code.splitlines()] == [line.strip() for line in cut]
        assert parses(each.code, language, kind=each.kind)
    add = next(each for each in found if each.name.lower().endswith("add"))
    assert add.docstring in ("Adds.", "Add adds.")
    body = add.code[add.body_start : add.body_end].strip()
    assert body in ("return a + b", "return a + b;", "a + b")
    assert body in add.code.splitlines()[add.body_line]
    assert imports(source, language) == needed


def test_an_indent_inside_of_a_string_is_kept():
    opened = definitions(SOURCES["javascript"][0], "javascript")[2]
    assert opened.code == "// Opens.\nopen() {\n  return `\n  kept`;\n}\n"


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "python"])
def test_a_fault_spoils_the_definition_that_it_is_in_and_no_other(language):
    source = SOURCES[language][0]
    broken = {"go": "func broken( {{ ) }\n", "rust": "fn broken( {{ ) }\n", "cpp": "int broken( {{ ) }\n"}
    text = source + broken.get(language, "function broken( {{ ) }\n")
    assert not parses(text, language)
    assert parses(source, language)
    assert NAMES[language][0] in [each.name for each in definitions(text, language)]
    assert not parses("This is how it is done: first, you", language)


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "python"])
def test_code_cut_off_begins_a_program_and_prose_does_not(language):
    found = [each for each in definitions(SOURCES[language][0], language) if each.kind != "class"]
    begun = [
        begins_program(each.code[:cut], language, kind=each.kind)
        for each in found
        for cut in range(each.body_start, len(each.code))
    ]
    assert sum(begun) / len(begun) >= 0.85
    for each in found:
        assert begins_program(each.code, language, kind=each.kind)
        for prose in ("This function returns the sum of", "It's a function that does"):
            assert not begins_program(each.code + prose, language, kind=each.kind)
            assert not begins_program(prose + "\n" + each.code, language, kind=each.kind)
    assert not begins_program(" \n", language)


def test_a_header_is_cpp_only_where_it_says_what_c_cannot():
    assert language_of("a/box.h", "namespace box {\nint f();\n}\n") == "cpp"
    assert language_of("a/box.h", "#pragma once\nint f(void);\n") == "c"
    assert language_of("include/vector", "// <vector> -*- C++ -*-\n") == "cpp"
    assert language_of("README", "C++ is meant\n") is None
    assert language_of("App.TSX", "") == "typescript"
    with pytest.raises(UserError, match="language 'cobol' is unknown"):
        parses("", "cobol")


@pytest.mark.parametrize("language", REAL)
def test_of_real_code_less_than_one_definition_in_a_hundred_is_lost(language):
    folders = [folder for pattern in REAL[language] for folder in sorted(Path("/").glob(pattern[1:]))]
    files = [file for folder in folders for file in islice(read_folder(folder, languages=[language]), 400)]
    if len(files) < 10:
        pytest.skip(f"no {language} sources are installed")
    from demiurgic_jax.curation.tree_definitions import count_definitions

    random.Random(0).shuffle(files)
    counted = [count_definitions(file.text, LANGUAGES[language]) for file in files[:80]]
    total, faulty = (sum(each) for each in zip(*counted, strict=True))
    assert total > 100
    assert faulty / total < 0.01
