"""Asking and judging: nothing is asked twice, nothing that came is lost, and verdicts are the sandbox's."""

import asyncio
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from demiurgic_jax.data.completer import Completion, CompletionRequest, UnanswerableError
from demiurgic_jax.errors import UserError
from demiurgic_jax.evaluation import asking as asking_module
from demiurgic_jax.evaluation.asking import Asking, evaluate, evaluate_async, sample_seed
from demiurgic_jax.evaluation.benchmark import Benchmark
from demiurgic_jax.evaluation.catalogue import load_benchmark
from demiurgic_jax.evaluation.published import DataFolder
from demiurgic_jax.evaluation.results import open_folder, read_results
from demiurgic_jax.evaluation.scores import benchmark_scores
from demiurgic_jax.sampling.client import HttpCompleter
from demiurgic_jax.sandbox import toolchains
from tests.evaluation.conftest import Answering, needs_sandbox, right_body

pytestmark = needs_sandbox
AT_ONCE = Asking(attempts=1)


def test_right_answers_pass_and_every_line_tells_prompt_answer_verdict_and_time(sums, out):
    results = evaluate(sums, Answering(right_body), AT_ONCE, out)
    assert [result.verdict for result in results] == ["passed"] * 4
    rows = [json.loads(line) for line in (out / "sums" / "results.jsonl").read_text().splitlines()]
    assert {row["problem"] for row in rows} == {f"Sums/{number}" for number in range(4)}
    assert all(row["prompt"].startswith("def ") and row["answer"] and row["run_seconds"] > 0 for row in rows)


def test_wrong_answers_fail_with_a_reason(sums, out):
    results = evaluate(sums, Answering(lambda request: "\n    return None\n"), AT_ONCE, out)
    assert [(result.verdict, result.reason) for result in results] == [("failed", "AssertionError: ")] * 4


def test_a_model_that_answers_nothing_fails_without_being_run(sums, out):
    results = evaluate(sums, Answering(lambda request: "  \n"), AT_ONCE, out)
    assert {(result.verdict, result.reason) for result in results} == {("failed", "the model wrote nothing")}
    assert benchmark_scores("sums", results).whole.pass_at[1].value == 0.0


def test_chat_answers_are_taken_out_of_their_prose(sums, out):
    def chat(request):
        name = re.search(r"def (\w+)\(x\)", request.messages[-1].content)[1]
        return f"Of course!\n```python\ndef {name}(x):{right_body(request)}```\nHope it helps."

    results = evaluate(sums, Answering(chat), Asking(form="chat", attempts=1), out)
    assert [result.verdict for result in results] == ["passed"] * 4


def test_what_is_done_is_neither_asked_nor_run_again(sums, out):
    model = Answering(right_body)
    first = evaluate(sums, model, AT_ONCE, out)
    (out / "sums" / "results.jsonl").write_text("")
    assert [each.verdict for each in evaluate(sums, model, AT_ONCE, out)] == [each.verdict for each in first]
    assert len(model.asked) == 4


def test_more_samples_ask_only_for_the_new_ones_each_with_its_own_seed(sums, out):
    model = Answering(right_body)
    evaluate(sums, model, Asking(temperature=0.8, samples=1, attempts=1), out)
    results = evaluate(sums, model, Asking(temperature=0.8, samples=3, attempts=1), out)
    assert len(results) == len(model.asked) == 12
    assert len({request.seed for request in model.asked}) == 12
    assert model.asked[0].seed == sample_seed(0, "Sums/0", 0)


def test_a_line_that_a_kill_cut_off_is_asked_again(sums, out):
    model = Answering(right_body)
    evaluate(sums, model, AT_ONCE, out)
    answers, results = out / "sums" / "answers.jsonl", out / "sums" / "results.jsonl"
    answers.write_bytes(answers.read_bytes()[:-30])
    # Verdicts come in any order, and an answer with one is not needed again: so none is left.
    results.write_bytes(results.read_bytes()[:30])
    assert all(result.passed for result in evaluate(sums, model, AT_ONCE, out))
    assert len(model.asked) == 5


class MortalServer(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that closes its door after `lives` answers."""

    lives = 2

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if type(self).lives == 0:
            self.close_connection = True
            return
        type(self).lives -= 1
        text = right_body(CompletionRequest(prompt=body["prompt"]))
        answer = json.dumps({"choices": [{"text": text, "finish_reason": "stop"}], "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_a_url_that_dies_half_way_keeps_what_came_and_the_same_call_goes_on(sums, out):
    server = ThreadingHTTPServer(("127.0.0.1", 0), MortalServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"

    async def ask():
        async with HttpCompleter(url, model="mortal") as completer:
            return await evaluate_async(sums, completer, Asking(attempts=1, concurrency=1), out)

    try:
        with pytest.raises(UserError, match=r"2 of 4 answers are kept in .* be reached .*The same command goes on"):
            asyncio.run(ask())
        assert len(read_results(out / "sums" / "results.jsonl")) == 2
        MortalServer.lives = 2  # enough for what is missing, and not for one more
        assert all(result.passed for result in asyncio.run(ask()))
    finally:
        server.shutdown()
        server.server_close()


def test_a_request_that_fails_once_is_sent_again(sums, out):
    class Stumbling:
        stumbled = False

        async def complete(self, request):
            if not self.stumbled:
                self.stumbled = True
                raise UserError("http://busy/v1 refused the request (503): try again")
            return Completion(right_body(request), "stop", 1, 1)

    assert all(r.passed for r in evaluate(sums, Stumbling(), Asking(attempts=2, wait_seconds=0.01), out))


def test_a_prompt_that_is_too_long_fails_alone(sums, out):
    def answer(request):
        if "square" in request.prompt:
            raise UnanswerableError("the prompt has 9 tokens and the context holds 8")
        return right_body(request)

    results = evaluate(sums, Answering(answer), AT_ONCE, out)
    assert [result.verdict for result in results] == ["passed", "passed", "refused", "passed"]
    assert "context holds 8" in results[2].reason


def test_a_missing_toolchain_is_not_run_and_never_zero(sums, out, monkeypatch):
    model = Answering(right_body)
    monkeypatch.setattr(asking_module, "why_missing", lambda language: "python is not installed (apt install it)")
    results = evaluate(sums, model, AT_ONCE, out)
    scores = benchmark_scores("sums", results)
    assert (model.asked, scores.whole, scores.parts["language"]) == ([], None, {})
    assert scores.not_run == {"python": "python is not installed (apt install it)"}
    monkeypatch.undo()
    assert all(result.passed for result in evaluate(sums, model, AT_ONCE, out))


def test_a_compiler_that_is_not_in_the_path_leaves_out_its_language_alone(out, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "bwrap").symlink_to(str(shutil.which("bwrap")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    both = [load_benchmark(f"demiurgic-mini:{language}", DataFolder(None)) for language in ("python", "go")]
    problems = tuple(each.problems[0] for each in both)
    benchmark = Benchmark("mini", problems, {})
    model = Answering(lambda request: problems[0].canonical)
    toolchains._found.cache_clear()
    try:
        results = evaluate(benchmark, model, AT_ONCE, out)
    finally:
        toolchains._found.cache_clear()
    assert [result.verdict for result in results] == ["passed", "not run"]
    assert [request.prompt for request in model.asked] == [problems[0].question.raw]
    scores = benchmark_scores("mini", results)
    assert (scores.whole.pass_at[1].value, scores.parts["language"].keys()) == (1.0, {"python"})
    assert "go is not installed (Debian and Ubuntu: apt install golang-go)" in scores.not_run["go"]


def test_without_isolation_nothing_is_asked(sums, out, monkeypatch):
    model = Answering(right_body)
    monkeypatch.setattr(asking_module, "why_unavailable", lambda: "bubblewrap is not installed")
    with pytest.raises(UserError, match="not run without isolation: bubblewrap is not installed"):
        evaluate(sums, model, AT_ONCE, out)
    assert not model.asked


def test_answers_of_other_settings_are_not_mixed(out):
    settings = {"model": "a", "temperature": 0.0, "samples": 1, "benchmarks": {"sums": {"f": "1"}}}
    open_folder(out, settings)
    open_folder(out, {**settings, "samples": 5, "benchmarks": {"others": {}}})
    with pytest.raises(UserError, match=r"other settings \(temperature: 0.0 there, 0.5 here\): give another --out"):
        open_folder(out, {**settings, "temperature": 0.5})
    with pytest.raises(UserError, match="files of sums"):
        open_folder(out, {**settings, "benchmarks": {"sums": {"f": "2"}}})
