"""The everyday prompts and what is said of their completions."""

from demiurgic_jax.curation.python_code import begins_program
from demiurgic_jax.data.completer import Completion
from demiurgic_jax.evaluation.everyday import everyday_prompts, everyday_requests, judge_everyday


def results_of(text):
    return {
        name: judge_everyday(name, request, Completion(text, "length", 1, 1))
        for name, request in everyday_requests().items()
    }


def test_there_are_ten_prompts_and_each_begins_a_program():
    prompts = everyday_prompts()
    assert len(prompts) == len(set(prompts.values())) == 10
    assert all(begins_program(prompt) for prompt in prompts.values())
    assert all(prompt == prompt.rstrip() for prompt in prompts.values())


def test_every_prompt_is_asked_greedily_as_raw_text():
    requests = everyday_requests(max_tokens=7)
    assert {name: request.prompt for name, request in requests.items()} == everyday_prompts()
    assert {(each.max_tokens, each.temperature, each.messages) for each in requests.values()} == {(7, 0.0, ())}


def test_nothing_written_is_not_a_success():
    for blank in ("", "\n    \n"):
        assert not any(result.parses or result.begins for result in results_of(blank).values())


def test_code_counts_and_prose_does_not():
    begun = results_of("\n    return [\n        1,\n")["is_prime"]
    assert begun.begins
    assert not begun.parses
    assert not results_of("    return [")["celsius"].begins  # "return    return ["
    whole = results_of("\n    return 0\n")["is_prime"]
    assert whole.parses
    assert whole.begins
    prose = results_of("The answer to this is a function that returns\nthe right thing. It's easy")
    assert not any(result.parses or result.begins for result in prose.values())
