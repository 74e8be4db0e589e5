"""HumanEval's single-line gaps, filled over HTTP here and by `transformers` there: same weights, same prompts."""

import asyncio
import dataclasses
import gzip
import json
from pathlib import Path

import pytest

from demiurgic_jax.checkpoints.checkpoint import open_stored
from demiurgic_jax.data.completer import CompletionRequest
from demiurgic_jax.data.fim import fim_prompt
from demiurgic_jax.data.fim_families import FimFormat
from demiurgic_jax.data.huggingface_tokenizer import HuggingFaceTokenizer
from demiurgic_jax.interop.huggingface_export import export_huggingface
from demiurgic_jax.interop.imported import ImportedModel, import_model, write_checkpoint
from demiurgic_jax.interop.model_card import CardFacts
from demiurgic_jax.sampling.client import HttpCompleter
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving

ANSWER = 20
# SmolLM2 was taught no gaps. Pieces that it has and no code uses get the names of StarCoder2's.
RENAMED = {"<gh_stars>": "<fim_prefix>", "<issue_start>": "<fim_suffix>", "<issue_comment>": "<fim_middle>"}


@pytest.fixture(scope="module")
def model(smollm2_gguf: Path) -> ImportedModel:
    model = import_model(smollm2_gguf)
    files = {name: content.decode() for name, content in model.tokenizer.files().items()}
    for old, new in RENAMED.items():
        files["tokenizer.json"] = files["tokenizer.json"].replace(json.dumps(old), json.dumps(new))
    renamed = HuggingFaceTokenizer.from_files({name: text.encode() for name, text in files.items()}, "the test")
    assert FimFormat(renamed, "").family.name == "StarCoder2"
    return dataclasses.replace(model, tokenizer=renamed)


def read_problems(shared_data: Path, step: int) -> list[dict]:
    path = shared_data / "humaneval_infilling" / "HumanEval-SingleLineInfilling.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no HumanEval infilling problems at {path}")
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines][::step]


def ours(model: ImportedModel, problems: list[dict]) -> list[str]:
    async def ask(url: str) -> list[str]:
        async with HttpCompleter(url) as completer:
            requests = [
                CompletionRequest(prompt=problem["prompt"], suffix=problem["suffix"], max_tokens=ANSWER)
                for problem in problems
            ]
            return [answer.text for answer in await asyncio.gather(*map(completer.complete, requests))]

    with (
        Engine(model.config, model.params, model.tokenizer, slots=4, max_context=1024) as engine,
        serving(engine, "smollm2") as url,
    ):
        return asyncio.run(ask(url))


def theirs(model: ImportedModel, problems: list[dict], folder: Path) -> list[str]:
    torch = pytest.importorskip("torch", reason="transformers needs it to run a model")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    write_checkpoint(model, folder / "ours")
    export_huggingface(open_stored(folder / "ours"), folder / "hf", CardFacts("SmolLM2-135M-Instruct", "apache-2.0"))
    network = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "hf")
    stops = [*model.tokenizer.special.stops, *FimFormat(model.tokenizer, "").stops]
    texts = []
    for problem in problems:
        text = f"<fim_prefix>{problem['prompt']}<fim_suffix>{problem['suffix']}<fim_middle>"
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == fim_prompt(model.tokenizer, problem["prompt"], problem["suffix"])
        found = network.generate(
            torch.tensor([ids]), max_new_tokens=ANSWER, do_sample=False, eos_token_id=stops, pad_token_id=0
        )[0, len(ids) :].tolist()
        ended = next((at for at, token in enumerate(found) if token in stops), len(found))
        texts.append(model.tokenizer.decode(found[:ended]))
    return texts


def exact_matches(texts: list[str], problems: list[dict]) -> int:
    return sum(
        text.partition("\n")[0].strip() == problem["canonical_solution"].strip()
        for text, problem in zip(texts, problems, strict=True)
    )


def compare(model: ImportedModel, shared_data: Path, step: int, folder: Path) -> None:
    problems = read_problems(shared_data, step)
    here, there = ours(model, problems), theirs(model, problems, folder)
    print(f"{len(problems)} gaps: exact {exact_matches(here, problems)} here, {exact_matches(there, problems)} there")
    assert here == there
    assert exact_matches(here, problems) == exact_matches(there, problems)


@pytest.mark.slow
def test_gaps_are_filled_as_by_transformers(model: ImportedModel, shared_data: Path, tmp_path: Path):
    compare(model, shared_data, 43, tmp_path)


@pytest.mark.full_size
def test_all_gaps_of_humaneval_are_filled_as_by_transformers(model: ImportedModel, shared_data: Path, tmp_path: Path):
    compare(model, shared_data, 1, tmp_path)
