"""What the corpus pipeline's steps cost beside the usual ways, and what a small network learns beside xz.

    python -m tools.benchmarks.corpus quality FOLDER        measures of code, as percentiles by language
    python -m tools.benchmarks.corpus minhash FOLDER        near-duplicates: ours beside bare datatrove (needs spacy)
    python -m tools.benchmarks.corpus tokenise FOLDER       shards of documents beside bare SentencePiece
    python -m tools.benchmarks.corpus bits WORKDIR          bits a byte of held-out code beside xz -9

FOLDER holds a folder for each repository. Figures are ratios of the processor's own time, of rounds that alternate.
"""

import argparse
import json
import lzma
import math
import os
import random
import resource
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from demiurgic_jax.curation.languages import LANGUAGES
from demiurgic_jax.curation.quality import faulty, measure
from demiurgic_jax.curation.sources import CodeSource, SourceFile, repositories, screened
from demiurgic_jax.errors import UserError

PERCENTILES = (0.1, 1, 50, 95, 99, 99.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(BENCHMARKS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=1000, help="at most, drawn by chance (default: 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way, alternating (default: 3)")
    parser.add_argument("--processes", type=int, default=1, help="of tokenise (default: 1)")
    arguments = parser.parse_args()
    try:
        Console().print(BENCHMARKS[arguments.what](arguments))
    except UserError as error:
        parser.error(str(error))


def real_files(folder: Path, most: int) -> list[SourceFile]:
    """Files of the seven languages, drawn by chance; of each repository so many alike."""
    found: list[SourceFile] = []
    sources = repositories(CodeSource(folders=str(folder)))
    random.Random(0).shuffle(sources)
    for source in sources:
        files = [each for each in screened(source, languages=tuple(LANGUAGES)) if isinstance(each, SourceFile)]
        random.Random(0).shuffle(files)
        found += files[: max(most // 20, 1)]
        if len(found) >= most:
            break
    random.Random(0).shuffle(found)
    return found[:most]


def quality(arguments: argparse.Namespace) -> Table:
    """The percentiles that THRESHOLDS quotes."""
    table = Table("language", "files", "measure", *(f"{each} %" for each in PERCENTILES))
    by_language: dict[str, list[list[float]]] = defaultdict(list)
    for file in real_files(arguments.folder, arguments.files):
        measures = measure(file.text, file.language)
        by_language[file.language].append([*vars(measures).values(), faulty(file.text, file.language)])
    names = [*measure("x", "python").__dataclass_fields__, "faulty"]
    for language, rows in sorted(by_language.items()):
        for name, column in zip(names, np.array(rows).T, strict=True):
            cells = [f"{value:.4g}" for value in np.percentile(column, PERCENTILES)]
            table.add_row(language, str(len(rows)), name, *cells)
    return table


def minhash(arguments: argparse.Namespace) -> Table:
    """Signing, pairs and clusters of files and of copies of half of them with 1 to 20 % of the words changed."""
    from datatrove.data import Document
    from datatrove.utils.logging import logger

    logger.disable("datatrove")
    rng = random.Random(0)
    texts = [file.text for file in real_files(arguments.folder, arguments.files)]
    copies = {number: _edited(texts[number], 0.01 + 0.19 * rng.random(), rng) for number in range(0, len(texts), 2)}
    whole = [*texts, *copies.values()]
    documents = [
        Document(text, f"{number:016x}", metadata={"language": "any", "bytes": len(text)})
        for number, text in enumerate(whole)
    ]
    size = sum(len(text.encode()) for text in whole) / 1e6
    ways: dict[str, Callable[[list[Any], Path], set[int]]] = {
        "ours": _our_minhash,
        "datatrove, words by our rule": lambda of, at: _bare_minhash(of, at, ours=True),
        "datatrove": lambda of, at: _bare_minhash(of, at, ours=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    recall = {}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                started = time.process_time()
                removed = way(documents, Path(folder))
                seconds[name].append(time.process_time() - started)
            pairs = zip(copies, range(len(texts), len(whole)), strict=True)
            recall[name] = sum(not {one, other}.isdisjoint(removed) for one, other in pairs) / len(copies)
    table = Table("way", "MB", "core seconds", "MB/s", "copies found", "times as fast as datatrove")
    slowest = statistics.median(seconds["datatrove"])
    for name, spent in seconds.items():
        median = statistics.median(spent)
        cells = [f"{size:.1f}", f"{median:.2f}", f"{size / median:.2f}", f"{recall[name]:.1%}"]
        table.add_row(name, *cells, f"{slowest / median:.1f}")
    return table


def _our_minhash(documents: list[Any], folder: Path) -> set[int]:
    from demiurgic_jax.curation.corpus.near import FindNear, SignNear, find_pairs
    from demiurgic_jax.curation.near_duplicates import MinHashConfig

    config = MinHashConfig()
    for _ in SignNear(folder / "signatures", config).run(iter(documents)):
        pass
    pairs = find_pairs(folder / "signatures", folder / "pairs", config)
    for band in range(config.bands):
        pairs.run(None, band, config.bands)
    FindNear(folder / "signatures", folder / "pairs", folder / "clusters").run()
    return set(np.load(folder / "clusters" / "00000.npy").tolist())


def _bare_minhash(documents: list[Any], folder: Path, *, ours: bool) -> set[int]:
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupSignature,
    )
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class OurWords(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            import re

            return re.findall(r"\w+|[^\w\s]", text)

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    kept = TextNormConfig(
        lowercase=False, norm_whitespace=False, remove_punctuation=False, norm_unicode_diacritics=False
    )
    # xxhash 4 takes no text, which datatrove 0.10 gives it.
    hashing = HashConfig(hash_fc="sha1")
    config = MinhashConfig(norm_config=kept, hash_config=hashing) if ours else MinhashConfig(hash_config=hashing)
    language: Any = OurWords("en") if ours else "eng"
    sign = MinhashDedupSignature(str(folder / "signatures"), config=config, language=language)
    sign.run(iter(documents), 0, 1)
    pairs = MinhashDedupBuckets(
        str(folder / "signatures"),
        str(folder / "pairs"),
        config=config,
        only_dedup_in_index=False,
        lines_to_buffer=4096,
    )
    clusters = MinhashDedupCluster(str(folder / "pairs"), str(folder / "clusters"), config=config)
    for band in range(config.num_buckets):
        pairs.run(None, band, config.num_buckets)
    clusters.run(None, 0, 1)
    found = folder / "clusters" / "000000.remove"
    return set(np.fromfile(found, "<u4").tolist()) if found.exists() else set()


def _edited(text: str, share: float, rng: random.Random) -> str:
    words = text.split(" ")
    return " ".join(f"w{rng.randrange(10**6)}" if word and rng.random() < share else word for word in words)


def tokenise(arguments: argparse.Namespace) -> Table:
    """Parts of documents to shards, beside the same texts through SentencePiece's own encoder, in as many processes."""
    from datatrove.data import Document

    from demiurgic_jax.curation.corpus.parts import write_ranks
    from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
    from demiurgic_jax.data.tokenizer import save_tokenizer
    from experiments.stages.corpus_shards import write_part

    files = real_files(arguments.folder, arguments.files)
    size = sum(len(file.text.encode()) for file in files) / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = train_sentencepiece((file.text for file in files[:200]), 8192)
        save_tokenizer(tokenizer, folder / "tokenizer")
        parts = arguments.processes
        for part in range(parts):
            documents = [
                Document(file.text, f"{number:016x}", metadata={"language": file.language, "licence": file.licence})
                for number, file in enumerate(files)
                if number % parts == part
            ]
            for _ in write_ranks(folder / "documents").run(iter(documents), part, parts):
                pass
        texts = [[file.text for number, file in enumerate(files) if number % parts == part] for part in range(parts)]
        model = str(folder / "tokenizer" / "tokenizer.model")
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for number in range(arguments.rounds):
            shards = folder / f"shards{number}"
            work: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
                (write_part, (part, folder / "documents", folder / "tokenizer", shards, parts, {}))
                for part in range(parts)
            ]
            seconds["ours"].append(_core_seconds(work))
            seconds["bare"].append(_core_seconds([(_bare_encode, (each, model)) for each in texts]))
    ours, bare = (statistics.median(seconds[way]) for way in ("ours", "bare"))
    table = Table("way", "MB", "core seconds", "MB/s a core", "of bare")
    table.add_row("documents to shards", f"{size:.1f}", f"{ours:.2f}", f"{size / ours:.2f}", f"{bare / ours:.2f}")
    table.add_row("bare SentencePiece", f"{size:.1f}", f"{bare:.2f}", f"{size / bare:.2f}", "1.00")
    return table


def _bare_encode(texts: list[str], model: str) -> int:
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=model)
    return sum(len(processor.encode(text)) for text in texts)


def _core_seconds(work: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> float:
    """Of all of `work`, each in a process of its own (of one, in this), without the start."""
    if len(work) == 1:
        started = time.process_time()
        work[0][0](*work[0][1])
        return time.process_time() - started
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(len(work)) as pool:
        return sum(pool.map(_timed, work))


def _timed(work: tuple[Callable[..., Any], tuple[Any, ...]]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work[0](*work[1])
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bits(arguments: argparse.Namespace) -> Table:
    """Bits a byte of held-out code: the network's, and what xz -9 needs more for a file behind the training text."""
    from demiurgic_jax.curation.corpus.parts import read_rank
    from demiurgic_jax.data.shards import ShardSet
    from demiurgic_jax.data.tokenizer import load_tokenizer

    workdir = arguments.folder
    manifest = workdir / "train" / "manifest.json"
    if not manifest.exists():
        raise UserError(
            f"{workdir} has no finished training: run python -m experiments.run --config=tiny_scratch first"
        )
    figures = json.loads(manifest.read_text())["outputs"]["heldout_after"]
    parts = json.loads((workdir / "config.json").read_text())["config"]["corpus"]["parts"]
    tokenizer = load_tokenizer(workdir / "tokenizer" / "files")
    texts: dict[str, list[bytes]] = defaultdict(list)
    learnt: Counter[str] = Counter()
    heldout = ShardSet(workdir / "shards" / "heldout")
    for number in range(len(heldout)):
        document = heldout.read(number)
        mask = slice(None) if document.loss_mask is None else document.loss_mask.astype(bool)
        text = tokenizer.decode(document.tokens[mask].tolist()).encode()
        learnt[document.language] += len(text)
        texts[document.language].append(text)
    training: dict[str, list[bytes]] = defaultdict(list)
    for part in range(parts):
        for each in read_rank(workdir / "corpus" / "documents" / "train", part):
            training[each.metadata["language"]].append(each.text.encode())
    table = Table("language", "held-out files", "bytes", "network, bits a byte", "xz -9, bits a byte", "files of xz")
    for language, of in sorted(texts.items()):
        nats = figures[f"language/{language}/cross_entropy"] * figures[f"language/{language}/loss_tokens"]
        network = nats / math.log(2) / learnt[language]
        before = b"".join(training[language])
        drawn = random.Random(0).sample(of, min(len(of), 20))
        base, *sizes = _xz_sizes(before, [b"", *drawn])
        preset = 8 * (sum(sizes) - base * len(sizes)) / sum(map(len, drawn))
        table.add_row(
            language, str(len(of)), f"{learnt[language]:,}", f"{network:.3f}", f"{preset:.3f}", str(len(drawn))
        )
    return table


def _xz_sizes(before: bytes, texts: Sequence[bytes]) -> list[int]:
    """Bytes of `xz -9` of `before` with each of `texts` behind it, its dictionary as large as both where that is more.
    `before` is packed once: each text goes on in a copy of the process."""
    size = max(64 << 20, len(before) + max(map(len, texts)))
    packer = lzma.LZMACompressor(filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": size}])
    packed = len(packer.compress(before))
    sizes = []
    for text in texts:
        reader, writer = os.pipe()
        if not os.fork():
            os.write(writer, str(packed + len(packer.compress(text)) + len(packer.flush())).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as file:
            sizes.append(int(file.read()))
        os.wait()
    return sizes


BENCHMARKS: dict[str, Callable[[argparse.Namespace], Table]] = {
    "quality": quality,
    "minhash": minhash,
    "tokenise": tokenise,
    "bits": bits,
}

if __name__ == "__main__":
    main()
