"""shards: real code and the teacher's answers as tokens, with the teacher's soft targets beside them.

WORKDIR/shards/train, heldout          what training reads
WORKDIR/shards/text/train, heldout     the same without soft targets, where a teacher's weights score them
WORKDIR/shards/corpus                  the corpus, of runs that have one
WORKDIR/shards/sources/NAME            text of config.shards.sources, a set each
WORKDIR/shards/DATA_CARD.md            what is in them, from whom, and what was rejected
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from demiurgic_jax.curation.seeds import Seed, is_heldout, read_seeds
from demiurgic_jax.data.document import Document
from demiurgic_jax.data.mixture import Mixture, MixtureConfig
from demiurgic_jax.data.shards import ShardSet, ShardSetWriter, write_shards
from demiurgic_jax.data.soft_targets import SOFT_TARGET_KINDS, SoftTargets
from demiurgic_jax.data.sources import SourceConfig, source_digest, source_documents, source_files
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.distillation.example import read_examples
from demiurgic_jax.distillation.mix import limits_of, mixed
from demiurgic_jax.errors import UserError
from experiments.data_card import data_card
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.corpus import documents_folder, has_corpus
from experiments.stages.corpus_shards import corpus_documents, write_corpus_shards
from experiments.stages.documents import encoded
from experiments.stages.stage import Run, Stage
from experiments.stages.tokenizer import run_tokenizer
from experiments.stages.told_answers import ToldAnswers
from experiments.teacher import has_local_teacher, local_teacher, tells_no_logprobs
from experiments.workdir import canonical_hash

SPLITS = ("train", "heldout")
CORPUS_SET = "corpus"


def shard_set(run: Run, split: str) -> ShardSet:
    """The finished shards of `split`."""
    return ShardSet(run.file("shards", split))


def mixture(run: Run, config: MixtureConfig) -> Mixture:
    """The shard sets that `config` names: "train", a source of this run, or a folder or address."""
    sources = {source.name for source in _sources(run)}
    folders = [
        shard_set(run, name)
        if name in own_sets(run)
        else ShardSet(_source_folder(run, name) if name in sources else name)
        for name in config.sets
    ]
    return Mixture(folders, config.weights)


def outside_fingerprints(run: Run, config: MixtureConfig) -> dict[str, str]:
    """Of the sets in `config` that this run does not make: their fingerprints."""
    own = {*own_sets(run), *(source.name for source in _sources(run))}
    return {name: ShardSet(name).fingerprint for name in config.sets if name not in own}


def own_sets(run: Run) -> tuple[str, ...]:
    """Names of the sets that are made of the run's own code and answers."""
    return (*SPLITS, CORPUS_SET) if has_corpus(run) else SPLITS


def _sources(run: Run) -> list[SourceConfig]:
    sources = []
    for number, fields in enumerate(run.config.shards.sources):
        try:
            sources.append(SourceConfig(**fields))
        except TypeError as error:
            raise UserError(f"config.shards.sources[{number}]: {error}; docs/data.md lists the fields") from error
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1 or name in own_sets(run):
            raise UserError(f"config.shards.sources has {name!r} twice, or the run's own: give each a name of its own")
    return sources


def _at_most(run: Run) -> dict[str, float]:
    pairs = run.config.shards.at_most
    if not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise UserError(f"config.shards.at_most={pairs!r} holds no pairs: give (('explain', 0.2), ('fix/go', 1000))")
    return dict(pairs)


def _source_folder(run: Run, name: str) -> Path:
    return run.file("shards", "sources") / name


def _check(run: Run) -> None:
    for source in _sources(run):
        if source.path:
            source_files(source)
    limits_of(_at_most(run), 1)
    if run.config.shards.soft_targets and not has_local_teacher(run):
        without = "--config.shards.soft_targets=0 --config.train.soft_targets=0 --config.train.loss.distill_weight=0"
        if not run.config.teach.logprobs:
            raise UserError(
                "config.shards.soft_targets needs the teacher's weights, or what its API tells of each token: set "
                f"config.teacher.path, or --config.teach.logprobs=20, or {without}"
            )
        if silent := tells_no_logprobs(run.config):
            raise UserError(f"config.shards.soft_targets: {silent}; set config.teacher.path, or {without}")
    if run.config.shards.soft_target_kind not in SOFT_TARGET_KINDS:
        raise UserError(
            f"config.shards.soft_target_kind={run.config.shards.soft_target_kind!r} is unknown: choose "
            f"{' or '.join(SOFT_TARGET_KINDS)}"
        )


def _inputs(run: Run) -> Mapping[str, Any]:
    return {
        "shards": run.config.shards.to_dict(),
        "heldout_fraction": run.config.seeds.heldout_fraction,
        "sources": {source.name: source_digest(source) for source in _sources(run)},
    }


def code_documents(seeds: Sequence[Seed], tokenizer_folder: Path, budget: int, longest: int) -> list[Document]:
    """Pieces and whole files in turn, each cut at `longest` tokens, until `budget` tokens are there."""
    documents: list[Document] = []
    if budget <= 0:
        return documents
    tokens = 0
    for document in encoded(_alternating(seeds), tokenizer_folder, longest):
        documents.append(document)
        tokens += len(document.tokens)
        if tokens >= budget:
            break
    return documents


def _alternating(seeds: Sequence[Seed]) -> Iterable[Seed]:
    """A piece, a file, a piece …, each kind in an order drawn by hash."""
    shuffled = sorted(seeds, key=lambda seed: canonical_hash(seed.id))
    files = iter([seed for seed in shuffled if seed.kind == "file"])
    pieces = iter([seed for seed in shuffled if seed.kind != "file"])
    done = object()
    while True:
        pair = [next(source, done) for source in (pieces, files)]
        if all(each is done for each in pair):
            return
        yield from (each for each in pair if isinstance(each, Seed))


def _execute(run: Run, progress: StageProgress) -> Mapping[str, Any]:
    config, fraction = run.config.shards, run.config.seeds.heldout_fraction
    tokenizer = run_tokenizer(run)
    seeds = read_seeds(run.file("seeds", "seeds.jsonl"))
    verified = read_examples(run.file("verify", "examples.jsonl"))
    examples = mixed(verified, _at_most(run))
    budgets = {"train": config.code_tokens, "heldout": config.heldout_code_tokens}
    text_sets: dict[str, ShardSet] = {}
    written: dict[str, list[Document]] = {}
    folder_of_tokenizer = run.file("tokenizer", "files")
    longest = config.max_document_tokens
    scores = bool(config.soft_targets) and has_local_teacher(run)
    told = ToldAnswers(run, tokenizer) if config.soft_targets and not scores else None
    for split in SPLITS:
        heldout = split == "heldout"
        code = [seed for seed in seeds if is_heldout(seed.path, fraction) == heldout]
        documents = code_documents(code, folder_of_tokenizer, budgets[split], longest)
        if heldout and has_corpus(run):
            documents += _heldout_corpus(run, tokenizer, budgets[split])
        kept = [each for each in examples if is_heldout(each.path, fraction) == heldout]
        answers = zip(encoded(kept, folder_of_tokenizer, longest), kept, strict=True)
        documents += [
            each if told is None else told.added_to(each, example)
            for each, example in answers
            if len(each.tokens) <= longest
        ]
        if not documents:
            raise UserError(
                f"no document is left for the {split} set: raise config.seeds.heldout_fraction or max_files"
            )
        folder = run.file("shards", "text") / split if scores else run.file("shards", split)
        # A shard counts as finished when its provenance is the same: so the provenance must say all.
        provenance: dict[str, Any] = {"experiment": run.name, "split": split, "inputs": _digest(documents)}
        if told is not None:
            provenance["soft_targets"] = {"told_by": run.config.teacher.model, "top_k": config.soft_targets}
        text_sets[split] = write_shards(
            folder, documents, tokenizer=tokenizer, num_shards=config.num_shards, provenance=provenance
        )
        written[split] = documents
        with_teacher = sum(each.soft_targets is not None for each in documents)
        progress.doing(
            f"{split}: {len(documents):,} documents" + f", {with_teacher:,} with soft targets" * (told is not None)
        )
    learnt = {each.key for documents in written.values() for each in documents}
    used = [each for each in examples if each.id in learnt]
    left_out = {"by config.shards.at_most": len(verified) - len(examples), "too long": len(examples) - len(used)}
    outputs = {stage: run.outputs(stage) for stage in ("seeds", "teach", "verify")}
    run.file("shards", "DATA_CARD.md").write_text(data_card(run.name, written, used, outputs, left_out))
    sets = _scored(run, text_sets, progress) if scores else text_sets
    if has_corpus(run):
        sets[CORPUS_SET] = write_corpus_shards(
            documents_folder(run, "train"),
            folder_of_tokenizer,
            run.file("shards", CORPUS_SET),
            run.config.corpus.parts,
            {"experiment": run.name, "split": CORPUS_SET, "inputs": run.outputs("corpus")["documents"]["train"]},
            progress,
        )
    sets |= {source.name: _source_set(run, source, tokenizer, progress) for source in _sources(run)}
    totals = {split: each.manifest for split, each in sets.items()}
    return {
        "fingerprints": {split: each.fingerprint for split, each in sets.items()},
        "documents": {split: len(each) for split, each in sets.items()},
        "tokens": {split: int(each.lengths.sum()) for split, each in sets.items()},
        "tasks": {split: manifest["tasks"] for split, manifest in totals.items()},
        "licences": {split: manifest["licences"] for split, manifest in totals.items()},
    }


def _heldout_corpus(run: Run, tokenizer: Tokenizer, budget: int) -> Iterator[Document]:
    """Of the repositories that are held out, up to `budget` tokens from each language."""
    tokens: Counter[str] = Counter()
    for part in range(run.config.corpus.parts):
        for document in corpus_documents(documents_folder(run, "heldout"), part, tokenizer):
            if tokens[document.language] < budget and len(document.tokens) <= run.config.shards.max_document_tokens:
                tokens[document.language] += len(document.tokens)
                yield document


def _source_set(run: Run, source: SourceConfig, tokenizer: Tokenizer, progress: StageProgress) -> ShardSet:
    """A source's rows as they come, dealt out over the shards."""
    num_shards = run.config.shards.num_shards
    provenance = {"source": asdict(source), "inputs": source_digest(source)}
    folder = _source_folder(run, source.name)
    writer = ShardSetWriter(folder, tokenizer=tokenizer, num_shards=num_shards, provenance=provenance)
    for shard in range(num_shards):
        progress.doing(f"{source.name}: shard {shard + 1} of {num_shards}")
        if not writer.has_shard(shard):
            writer.write_shard(shard, source_documents(source, tokenizer, part=shard, num_parts=num_shards))
    return writer.finish()


def _scored(run: Run, text_sets: Mapping[str, ShardSet], progress: StageProgress) -> dict[str, ShardSet]:
    """The same documents with the teacher's soft targets."""
    from demiurgic_jax.sampling.cross_tokenizer import score_shards_across
    from demiurgic_jax.sampling.scoring import ScoringConfig, score_shards

    config = run.config.shards
    teacher = local_teacher(run, cache_folder(), progress)
    total = sum(int(each.lengths.sum()) for each in text_sets.values())
    done = 0

    def show(tokens: int) -> None:
        nonlocal done
        done += tokens
        progress(done, total, "tokens")

    tokenizer = run_tokenizer(run)
    longest = config.max_document_tokens
    scoring = ScoringConfig(config.soft_targets, config.top_p, longest, kind=config.soft_target_kind)
    scored: dict[str, ShardSet] = {}
    for split, source in text_sets.items():
        arguments = source, run.file("shards", split), teacher.config, teacher.params, teacher.tokenizer
        told = {"teacher": run.config.teacher.model, "progress": show}
        if tokenizer.fingerprint == teacher.tokenizer.fingerprint:
            whole = score_shards(*arguments, scoring, **told)
        else:
            whole = score_shards_across(*arguments, tokenizer, scoring, **told)
        assert whole is not None, "one process does all shards"
        scored[split] = whole
    return scored


def _digest(documents: Sequence[Document]) -> str:
    """Of all that the records will hold; text alone is known by what it was before there could be more."""

    def told(soft: SoftTargets | None) -> list[list[float]]:
        return [] if soft is None else [soft.counts.tolist(), soft.ids.tolist(), soft.logprobs.tolist()]

    return canonical_hash([[each.key, each.task, each.tokens.tolist(), *told(each.soft_targets)] for each in documents])


SHARDS = Stage(
    name="shards",
    needs=("seeds", "teach", "verify", "corpus", "tokenizer"),
    check=_check,
    inputs=_inputs,
    execute=_execute,
    summary=lambda out: ", ".join(
        f"{name}: {count:,} documents, {out['tokens'][name]:,} tokens" for name, count in out["documents"].items()
    ),
)
