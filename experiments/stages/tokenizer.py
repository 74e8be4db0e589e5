"""tokenizer: the teacher's own, or a SentencePiece one trained on the run's code, answers and sample of a corpus."""

from collections.abc import Iterator, Mapping
from typing import Any

from demiurgic_jax.curation.seeds import is_heldout, read_seeds
from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer, save_tokenizer
from demiurgic_jax.distillation.example import read_examples
from demiurgic_jax.errors import UserError
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.corpus import documents_folder, has_corpus, pairs
from experiments.stages.corpus_shards import sample_texts
from experiments.stages.stage import Run, Stage
from experiments.teacher import initial_teacher

KINDS = ("teacher", "sentencepiece")


def run_tokenizer(run: Run) -> Tokenizer:
    """The tokenizer that the finished stage left."""
    return load_tokenizer(run.file("tokenizer", "files"))


def _inputs(run: Run) -> Mapping[str, Any]:
    if run.config.tokenizer.kind not in KINDS:
        raise UserError(f"config.tokenizer.kind={run.config.tokenizer.kind!r} is unknown: choose {' or '.join(KINDS)}")
    sampled = {name: run.config.corpus[name] for name in ("language_weights", "sample_megabytes")}
    return {
        **({"corpus": sampled} if has_corpus(run) else {}),
        "tokenizer": run.config.tokenizer.to_dict(),
        "teacher": run.config.init.teacher or run.config.teacher.path,
    }


def _texts(run: Run) -> Iterator[str]:
    """Training files and answers; what is held out stays unseen by the tokenizer too."""
    if has_corpus(run):
        yield from _corpus_texts(run)
    fraction = run.config.seeds.heldout_fraction
    for seed in read_seeds(run.file("seeds", "seeds.jsonl")):
        if seed.kind == "file" and not is_heldout(seed.path, fraction):
            yield seed.code
    for example in read_examples(run.file("verify", "examples.jsonl")):
        if not is_heldout(example.path, fraction):
            yield from (message.content for message in example.messages)
            yield (example.prompt or "") + example.completion + (example.suffix or "")


def _corpus_texts(run: Run) -> Iterator[str]:
    config = run.config.corpus
    sizes = {language: kept["size"] for language, kept in run.outputs("corpus")["kept"].items()}
    weights = pairs(config.language_weights, "corpus.language_weights")
    yield from sample_texts(documents_folder(run, "train"), config.parts, sizes, weights, config.sample_megabytes)


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    if run.config.tokenizer.kind == "teacher":
        # A student that begins as another open model speaks with that one's.
        tokenizer = initial_teacher(run, cache_folder(), progress).tokenizer
    else:
        progress.doing("training a SentencePiece tokenizer")
        tokenizer = train_sentencepiece(_texts(run), run.config.tokenizer.vocab_size)
    save_tokenizer(tokenizer, run.file("tokenizer", "files"))
    return {"fingerprint": tokenizer.fingerprint, "vocab_size": tokenizer.vocab_size}


TOKENIZER = Stage(
    name="tokenizer",
    needs=("seeds", "verify", "corpus"),
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: f"{out['vocab_size']:,} pieces, fingerprint {out['fingerprint'][:12]}",
)
