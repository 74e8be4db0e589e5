"""/infill, /tokenize and /detokenize as llama.cpp's clients use them."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest

from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.data.fim_families import FimFormat
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.infill import InfillEnding
from demiurgic_jax.sampling.server import serving

# Patient: other tests may keep all cores busy.
web = httpx.Client(timeout=120)


@pytest.fixture(scope="module")
def root(engine: Engine) -> Iterator[str]:
    with serving(engine, "tiny") as url:
        yield url.removesuffix("/v1")


VIM_FIELDS = [
    "content",
    *(
        f"timings/{part}_{what}"
        for part in ("prompt", "predicted")
        for what in ("n", "ms", "per_token_ms", "per_second")
    ),
    "truncated",
    "tokens_cached",
]


def vim_request(**changed: object) -> dict:
    """What llama.vim sends for a cursor in a file, after some other files were looked at."""
    return {
        "input_prefix": "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n",
        "input_suffix": "\nprint(number)\n",
        "input_extra": [
            {"text": "def sub(a, b):\n    return a - b\n", "time": [1, 2], "filename": "sub.py"},
            {"text": "x = 1\n", "time": [3, 4], "filename": "x.py"},
        ],
        "prompt": "    print(",
        "n_predict": 16,
        "stop": [],
        "n_indent": 0,
        "top_k": 40,
        "top_p": 0.90,
        "stream": False,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 0,
        "response_fields": VIM_FIELDS,
        **changed,
    }


def test_a_replay_of_llama_vim_gets_what_it_reads(root: str, engine: Engine):
    sent = vim_request()
    answer = web.post(f"{root}/infill", json=sent).json()
    assert list(answer) == VIM_FIELDS
    form = FimFormat(engine.tokenizer, "")
    files = "# sub.py\ndef sub(a, b):\n    return a - b\n# x.py\nx = 1\n"
    encode = engine.tokenizer.encode
    blocks = [*encode("# sub.py\ndef sub(a, b):\n    return a - b\n"), *encode("# x.py\nx = 1\n")]
    ids = form.arrange([*blocks, *encode(sent["input_prefix"] + sent["prompt"])], encode(sent["input_suffix"]))
    assert engine.tokenizer.decode(ids).startswith("<|fim_prefix|>" + files)
    stream = engine.submit(CompletionRequest(prompt_tokens=tuple(ids), max_tokens=16))
    assert answer["content"] == "".join(piece.text for piece in stream)
    assert answer["timings/prompt_n"] == len(ids)
    assert answer["timings/predicted_n"] == 16
    assert answer["tokens_cached"] == len(ids) + 16
    assert answer["truncated"] is False
    assert answer["timings/predicted_per_second"] == pytest.approx(16e3 / answer["timings/predicted_ms"])


def test_editors_have_a_prompt_read_ahead_and_get_no_text_for_it(root: str):
    warm = vim_request(n_predict=0, t_max_prompt_ms=1, t_max_predict_ms=1, samplers=["temperature"], prompt="")
    assert web.post(f"{root}/infill", json=warm).json()["content"] == ""


def test_a_replay_of_llama_vscode_gets_the_whole_answer_of_llama_cpp(root: str):
    sent = vim_request(samplers=["top_k", "top_p", "infill"], n_predict=8)
    del sent["response_fields"]
    answer = web.post(f"{root}/infill", json=sent, headers={"Authorization": "Bearer unused"}).json()
    assert (answer["stop"], answer["stop_type"], answer["model"]) == (True, "limit", "tiny")
    assert (answer["tokens_predicted"], answer["timings"]["predicted_n"]) == (8, 8)
    assert answer["prompt"].endswith("print(number)\n<|fim_middle|>")
    assert answer["generation_settings"]["temperature"] == 0


def test_a_streamed_answer_is_the_whole_one_in_pieces(root: str):
    sent = vim_request(n_predict=24)
    whole = web.post(f"{root}/infill", json=sent | {"response_fields": None}).json()
    lines = web.post(f"{root}/infill", json=sent | {"stream": True, "response_fields": None}).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    assert "".join(event["content"] for event in events) == whole["content"]
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["tokens_predicted"] == whole["tokens_predicted"]


def test_a_long_file_is_cut_between_lines_and_said_to_be(root: str, engine: Engine):
    lines = "".join(f"x{i} = {i}\n" for i in range(1500))
    answer = web.post(f"{root}/infill", json=vim_request(input_prefix=lines, response_fields=None)).json()
    assert answer["truncated"] is True
    assert answer["tokens_evaluated"] + 16 <= engine.max_context
    prefix = answer["prompt"].partition("<|fim_suffix|>")[0]
    assert prefix.endswith("\nx1499 = 1499\n    print(")
    kept = [line for line in prefix.splitlines() if line.startswith("x") and line != "x = 1"]
    assert kept == lines.splitlines()[-len(kept) :]


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"n_predict": -2}, "n_predict"),
        ({"input_extra": [{"filename": "a"}]}, "input_extra"),
        ({"samplers": ["magic"]}, "samplers"),
        ({"temperature": -1}, "temperature"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"input_prefx": "x"}, "input_prefx"),
        ({"n_indent": "4"}, "n_indent"),
    ],
)
def test_a_bad_field_of_infill_is_refused_by_name(root: str, changed: dict, param: str):
    response = web.post(f"{root}/infill", json=vim_request(**changed))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("indent", "text", "kept"),
    [
        (0, "a\n  b\nc", "a\n  b\nc"),
        (4, "a\n    b\nc", "a\n    b"),
        (4, "a\n    b\n\n\n  c\n", "a\n    b"),
        (4, "a\n    b\n\n    c\n", "a\n    b\n\n    c\n"),
        (2, "a\n\tb\n\t\tc\nd", "a"),
        (1, "a\n\tb\n\t\tc\nd", "a\n\tb\n\t\tc"),
        (4, "a", "a"),
        (4, "\nb", ""),
        (4, "a\n  ", "a\n  "),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_middle_ends_where_the_indentation_falls_below(indent: int, text: str, kept: str, size: int):
    ending = InfillEnding(indent, 0)
    pieces = [ending.feed(text[i : i + size]) for i in range(0, len(text), size)]
    assert "".join([*pieces, ending.finish()]) == kept
    assert ending.ended == (kept != text)


def test_after_its_time_the_middle_ends_with_the_line():
    ending = InfillEnding(0, 0.05)
    assert ending.feed("a\nb") == "a\nb"
    time.sleep(0.06)
    assert (ending.feed("c"), ending.ended) == ("c", False)
    assert (ending.feed("d\ne"), ending.ended) == ("d", True)
    assert ending.feed("f") + ending.finish() == ""


def test_an_indentation_that_ends_the_middle_frees_the_slot(root: str, engine: Engine):
    """The network's text, whatever it is, ends before its first line that is not indented by a thousand."""
    sent = vim_request(n_predict=900, response_fields=None)
    whole = web.post(f"{root}/infill", json=sent).json()
    cut = web.post(f"{root}/infill", json=sent | {"n_indent": 1000}).json()
    lines = whole["content"].split("\n")
    if len(lines) == 1 or not "".join(lines[1:]).strip():
        pytest.skip("the small network wrote one line only")
    assert cut["content"] == lines[0]
    assert cut["tokens_predicted"] < whole["tokens_predicted"]
    assert engine.active == 0


def test_text_becomes_ids_and_ids_become_text(root: str, engine: Engine):
    text = "def add(a, b): # Grüße <|fim_middle|>"
    ids = web.post(f"{root}/tokenize", json={"content": text}).json()["tokens"]
    assert ids == engine.tokenizer.encode(text, allow_special=True)
    plain = web.post(f"{root}/tokenize", json={"content": text, "parse_special": False}).json()["tokens"]
    assert plain == engine.tokenizer.encode(text)
    begun = web.post(f"{root}/tokenize", json={"content": "x", "add_special": True}).json()["tokens"]
    assert begun[0] == engine.tokenizer.special.bos
    pieces = web.post(f"{root}/tokenize", json={"content": "a😀", "with_pieces": True}).json()["tokens"]
    joined = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"]) for p in pieces)
    assert joined.decode() == "a😀"
    for each in (ids, plain):
        assert web.post(f"{root}/detokenize", json={"tokens": each}).json() == {"content": text}
    assert web.post(f"{root}/detokenize", json={"tokens": []}).json() == {"content": ""}
    assert web.post(f"{root}/tokenize", json={}).json()["error"]["param"] == "content"
    assert web.post(f"{root}/detokenize", json={"tokens": ["a"]}).json()["error"]["param"] == "tokens"


def test_a_prompt_may_be_ids(root: str, engine: Engine):
    ids = engine.tokenizer.encode("for number")
    options = {"max_tokens": 6, "temperature": 0, "echo": True}
    text = web.post(f"{root}/v1/completions", json={"prompt": "for number", **options}).json()
    for prompt in (ids, [ids]):
        answer = web.post(f"{root}/v1/completions", json={"prompt": prompt, **options}).json()
        assert answer["choices"] == text["choices"]
    several = web.post(f"{root}/v1/completions", json={"prompt": [ids, ids[:1]], **options}).json()
    assert several["choices"][0] == text["choices"][0]
