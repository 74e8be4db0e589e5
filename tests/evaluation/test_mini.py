"""demiurgic-mini holds what its README promises: shape, ladder, references that pass and bugs that show."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from mini_programs import failing, why_not

from demiurgic_jax.curation.jsonl import read_jsonl
from demiurgic_jax.evaluation import mini_tests
from demiurgic_jax.evaluation.mini_candidates import candidate, complete_answer, count_tokens, is_simpler
from demiurgic_jax.evaluation.mini_tests import write_tests

FOLDER = Path(mini_tests.__file__).with_name("mini")
LANGUAGES = ("python", "javascript", "typescript", "go", "rust", "java", "cpp")
SKILLS = ("complete", "generate", "explain", "fix", "refactor")
KEYS = ["id", "language", "skill", "entry", "parameters", "returns", "context", "signature", "request", "code"]
KEYS += ["suffix", "reference", "tests"]

ROWS = {language: [row for _, row in read_jsonl(FOLDER / f"{language}.jsonl")] for language in LANGUAGES}
ALL = [row for rows in ROWS.values() for row in rows]


def of_skill(skill):
    return [row for row in ALL if row["skill"] == skill]


def test_ten_problems_per_skill_and_language():
    assert len({row["id"] for row in ALL}) == len(ALL) == 350
    for language, rows in ROWS.items():
        expected = [f"mini/{language}/{skill}/{n}" for skill in SKILLS for n in range(1, 11)]
        assert [row["id"] for row in rows] == expected
        assert len({row["entry"] for row in rows}) == 50


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_row_has_the_shape_that_the_readme_says(language):
    for row in ROWS[language]:
        assert list(row) == KEYS, row["id"]
        has_shape(row)


def has_shape(row):
    assert row["id"].split("/")[1:3] == [row["language"], row["skill"]]
    assert row["entry"] in row["signature"]
    assert "\n" not in row["signature"]
    assert row["signature"].endswith(":") == (row["language"] == "python")
    assert bool(row["request"]) == (row["skill"] in ("generate", "fix"))
    assert bool(row["code"]) == (row["skill"] != "generate")
    assert not row["context"] or row["context"].endswith("\n")
    assert row["reference"].strip()
    assert len(row["tests"]) >= 2
    for case in row["tests"]:
        assert list(case) in (["args", "returns"], ["args", "raises"])
        assert len(case["args"]) == len(row["parameters"])
        for value, type_ in zip(case["args"], row["parameters"], strict=True):
            assert is_of(value, type_)
        assert "raises" in case or is_of(case["returns"], row["returns"])
    if row["skill"] == "complete":
        assert row["code"] == row["code"].rstrip()
    else:
        assert not row["suffix"]


def is_of(value: object, type_: str) -> bool:
    kind, _, rest = type_.partition("<")
    inner = rest[:-1].removeprefix("string,") if kind == "map" else rest[:-1]
    if kind == "list":
        return isinstance(value, list) and all(is_of(item, inner) for item in value)
    if kind == "map":
        return isinstance(value, dict) and all(is_of(item, inner) for item in value.values())
    if kind in ("optional", "result"):
        return (kind == "optional" and value is None) or is_of(value, inner)
    plain = {"int": int, "float": (int, float), "bool": bool, "string": str}[kind]
    return isinstance(value, plain) and isinstance(value, bool) == (kind == "bool")


def test_half_of_the_complete_problems_fill_a_hole():
    for language, rows in ROWS.items():
        assert sum(bool(row["suffix"]) for row in rows) == 5, language


def test_languages_have_problems_of_their_own():
    """By name of the function: for each skill, at least four of ten differ between any two languages."""
    names = {(row["language"], row["skill"]): set[str]() for row in ALL}
    for row in ALL:
        names[row["language"], row["skill"]].add(row["entry"].replace("_", "").lower())
    for skill in SKILLS:
        for one, other in combinations(LANGUAGES, 2):
            assert len(names[one, skill] & names[other, skill]) <= 6, (skill, one, other)


def test_no_code_stands_twice():
    texts = Counter(json.dumps([row["code"], row["reference"], row["tests"]]) for row in ALL)
    assert max(texts.values()) == 1


def test_a_refactored_reference_is_simpler():
    for row in of_skill("refactor"):
        assert is_simpler(row, row["reference"]), row["id"]
        assert not is_simpler(row, row["code"]), row["id"]


def test_an_answer_is_cut_where_the_function_ends():
    for row in of_skill("complete"):
        more = "\n\ndef other():\n    pass\n" if row["language"] == "python" else "\n\nint other() { }\n"
        kept = complete_answer(row, row["reference"] + more)
        assert kept.rstrip() == (row["reference"] + (more if row["suffix"] else "")).rstrip(), row["id"]


def test_tokens_are_names_strings_and_signs():
    assert count_tokens('x = "a b"  # c\n', "python") == 3
    assert count_tokens('def f():\n    """Doc."""\n    return 1.5\n', "python") == 7
    assert count_tokens("f(a_b) /* c */ // d", "cpp") == 4
    assert count_tokens("let s = 'it\\'s'; `x ${y}`", "javascript") == 6
    assert count_tokens("fn f<'a>(c: char) { '\\n' }", "rust") == 14


def test_an_answer_may_bring_its_class_or_its_package():
    java, go = ROWS["java"][10], ROWS["go"][10]
    bare = candidate(java, "import java.util.function.*;\n" + java["reference"])
    assert "class Solution {" in bare
    assert bare.index("import java.util.function.*;") < bare.index("class Solution")
    assert "Solution.difference(5, 3)" in write_tests(java, bare)
    own = candidate(java, f"public class Answer {{\n{java['reference']}}}\n")
    assert "Solution" not in own
    assert "Answer.difference(5, 3)" in write_tests(java, own)
    assert candidate(go, "package main\n" + go["reference"]).count("package") == 1


AWKWARD = "a\"b\\c\n\t'é€😀\x01$`{}%"
CODE_POINTS = {
    "python": "def code_points(text):\n    return [ord(c) for c in text]\n",
    "javascript": "function code_points(text) { return [...text].map((c) => c.codePointAt(0)); }\n",
    "typescript": "function code_points(text: string) { return [...text].map((c) => c.codePointAt(0)); }\n",
    "go": "package main\nfunc code_points(text string) []int {\n\tlist := []int{}\n"
    "\tfor _, c := range text { list = append(list, int(c)) }\n\treturn list\n}\n",
    "rust": "fn code_points(text: &str) -> Vec<i64> { text.chars().map(|c| c as i64).collect() }\n",
    "java": "static List<Integer> code_points(String text) { return text.codePoints().boxed().toList(); }\n",
    # As UTF-8, since a string there is bytes.
    "cpp": "std::vector<int> code_points(const std::string& text) {\n"
    "    std::vector<int> list;\n    for (unsigned char c : text) list.push_back(c);\n    return list;\n}\n",
}


def awkward_row(language: str) -> dict:
    points = list(AWKWARD.encode()) if language == "cpp" else [ord(c) for c in AWKWARD]
    row = {"language": language, "skill": "generate", "entry": "code_points", "context": ROWS[language][10]["context"]}
    return row | {"parameters": ["string"], "returns": "list<int>", "tests": [{"args": [AWKWARD], "returns": points}]}


def verified(language: str, folder: Path) -> None:
    """All of the language's problems, and a text of awkward characters that has to reach the candidate unharmed."""
    made = candidate(awkward_row(language), CODE_POINTS[language])
    jobs, buggy = {"awkward": (made, write_tests(awkward_row(language), made))}, set()
    for row in ROWS[language]:
        answers = {}
        if row["skill"] in ("explain", "fix", "refactor"):
            answers["code"] = row["code"]
        if row["skill"] != "explain":
            answers["reference"] = row["reference"]
        for part, answer in answers.items():
            name = f"{row['skill']}-{row['id'].rpartition('/')[2]}-{part}"
            made = candidate(row, answer)
            jobs[name] = (made, write_tests(row, made))
            if row["skill"] == "fix" and part == "code":
                buggy.add(name)
    assert len(buggy) == 10
    assert failing(language, jobs, folder) == buggy


@pytest.mark.parametrize("language", ["python", "javascript", "typescript"])
def test_references_pass_and_bugs_fail(language, tmp_path):
    if why_not(language):
        pytest.skip(why_not(language))
    verified(language, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["go", "rust", "java", "cpp"])
def test_compiled_references_pass_and_bugs_fail(language, tmp_path):
    if why_not(language):
        pytest.skip(why_not(language))
    verified(language, tmp_path)
