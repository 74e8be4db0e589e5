from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demiurgic_jax.data.chat import encode_chat, encode_example, end_of_turn, render_chat
from demiurgic_jax.data.completer import Message
from demiurgic_jax.data.fim import fim_prompt
from demiurgic_jax.data.sentencepiece_tokenizer import SentencePieceTokenizer
from demiurgic_jax.data.special_tokens import CHATML
from demiurgic_jax.errors import UserError

CONVERSATION = [Message("system", "Be brief."), Message("user", "  1+1?\n")]
CHATML_TEXT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n  1+1?\n<|im_end|>\n<|im_start|>assistant\n"


def with_template(tokenizer: SentencePieceTokenizer, template: str) -> SentencePieceTokenizer:
    config = {"bos_token": "<|bos|>", "eos_token": "<|endoftext|>", "pad_token": "<|pad|>", "chat_template": template}
    return SentencePieceTokenizer(tokenizer.files()["tokenizer.model"], config, "the test")


def marker(tokenizer, name):
    (token_id,) = tokenizer.encode(name, allow_special=True)
    return token_id


def test_chatml_is_rendered_to_the_letter(tokenizer):
    assert render_chat(tokenizer, CONVERSATION) == CHATML_TEXT
    assert render_chat(tokenizer, CONVERSATION, add_generation_prompt=False) == CHATML_TEXT.removesuffix(
        "<|im_start|>assistant\n"
    )


def test_prompt_ids_hold_the_markers_as_reserved_ids(tokenizer):
    ids = encode_chat(tokenizer, CONVERSATION)
    assert tokenizer.decode(ids) == CHATML_TEXT
    assert ids.count(marker(tokenizer, "<|im_start|>")) == 3
    assert ids.count(marker(tokenizer, "<|im_end|>")) == 2


@settings(max_examples=100)
@given(
    content=st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "<", "[", "▁", "\ufdd0", "hi"])).map("".join)
    | st.text()
)
def test_no_content_can_forge_a_turn(tokenizer, content):
    ids = encode_chat(tokenizer, [Message("user", content)])
    assert tokenizer.decode(ids) == f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    assert ids.count(marker(tokenizer, "<|im_start|>")) == 2
    assert ids.count(marker(tokenizer, "<|im_end|>")) == 1


def test_only_the_answer_and_its_end_are_learnt(tokenizer):
    tokens, mask = encode_example(tokenizer, CONVERSATION, "return 2\n")
    assert (tokens.dtype, mask.dtype) == (np.int32, np.uint8)
    prompt = encode_chat(tokenizer, CONVERSATION)
    assert tokens[mask == 0].tolist() == prompt
    assert tokenizer.decode(tokens[mask == 1].tolist()) == "return 2\n<|im_end|>"
    assert tokens[-1] == marker(tokenizer, "<|im_end|>")
    assert mask.tolist() == sorted(mask.tolist())


def test_end_of_turn_is_what_the_template_closes_an_answer_with(tokenizer):
    assert end_of_turn(tokenizer) == marker(tokenizer, "<|im_end|>")
    instruct = "{% for m in messages %}{{ bos_token }}[{{ m.role }}] {{ m.content | trim }} {{ eos_token }}{% endfor %}"
    assert end_of_turn(with_template(tokenizer, instruct)) == tokenizer.special.eos
    unclosed = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    assert end_of_turn(with_template(tokenizer, unclosed)) == tokenizer.special.eos


def test_templates_written_for_hugging_face_render(tokenizer):
    template = (
        "{%- set ns = namespace(first=true) %}\n"
        "{% for m in messages %}\n"
        "    {% if m['role'] == 'system' %}{% continue %}{% endif %}\n"
        "    {% set ns.first = false %}\n"
        "{{ bos_token + m['role'] | upper }}: {{ m['content'] | tojson }}\n"
        "{% endfor %}"
    )
    text = render_chat(with_template(tokenizer, template), [Message("system", "s"), Message("user", "<é>")])
    assert text == '<|bos|>USER: "<é>"\n'


def test_a_template_that_refuses_is_quoted(tokenizer):
    refusing = with_template(tokenizer, "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UserError, match="refuses these messages: roles must alternate"):
        render_chat(refusing, CONVERSATION)


@pytest.mark.parametrize("template", ["{% for m in %}", "{{ messages[0].nothing.more }}", "{{ ''.__class__.mro() }}"])
def test_a_broken_or_prying_template_is_refused(tokenizer, template):
    with pytest.raises(UserError, match=r"chat template of tokenizer_config\.json fails"):
        render_chat(with_template(tokenizer, template), CONVERSATION)


def test_a_model_without_template_is_refused(tokenizer):
    with pytest.raises(UserError, match="no chat template"):
        encode_chat(with_template(tokenizer, ""), CONVERSATION)


def test_fill_in_the_middle_prompt_is_prefix_suffix_middle(tokenizer):
    ids = fim_prompt(tokenizer, "def f():\n", "\n<|fim_middle|>")
    assert tokenizer.decode(ids) == "<|fim_prefix|>def f():\n<|fim_suffix|>\n<|fim_middle|><|fim_middle|>"
    assert [ids.count(marker(tokenizer, f"<|fim_{part}|>")) for part in ("prefix", "suffix", "middle")] == [1, 1, 1]
    assert ids[-1] == tokenizer.special.fim_middle


def test_a_suffix_without_fim_tokens_is_refused(tokenizer):
    without = with_template(tokenizer, CHATML)
    without.special = replace(without.special, fim_middle=None)
    with pytest.raises(UserError, match="no fill-in-the-middle tokens"):
        fim_prompt(without, "a", "b")
