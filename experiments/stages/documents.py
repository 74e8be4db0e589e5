"""Code and examples as documents: encoded by several processes where there are many, in an order that is the same
with any number of them."""

import itertools
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from demiurgic_jax.curation.seeds import Seed
from demiurgic_jax.data.chat import encode_example
from demiurgic_jax.data.document import CODE, Document
from demiurgic_jax.data.fim import fim_prompt
from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer
from demiurgic_jax.distillation.example import Example

# A process takes seconds to start, in which one encodes thousands of texts.
_ALONE = 4096
_CHUNK = 256


def example_document(tokenizer: Tokenizer, example: Example) -> Document:
    """What of an example is learnt: the answer, not the question. A filled gap is learnt as fill-in-the-middle where
    the tokenizer has the pieces for it, else as the chat it came from."""
    special = tokenizer.special
    fills = example.suffix is not None and special.fim_prefix is not None
    if example.messages and not fills:
        tokens, mask = encode_example(tokenizer, example.messages, example.completion)
    else:
        before = example.prompt or ""
        asked = fim_prompt(tokenizer, before, example.suffix or "") if fills else tokenizer.encode(before)
        answer = [*tokenizer.encode(example.completion), special.eos]
        tokens = np.array(asked + answer, np.int32)
        mask = np.repeat(np.array([0, 1], np.uint8), [len(asked), len(answer)])
    return Document(example.id, example.language, example.task, tokens, mask, licence=example.licence)


def code_document(tokenizer: Tokenizer, seed: Seed, longest: int) -> Document:
    """The beginning of a piece or file, all of it learnt."""
    ids = np.array(tokenizer.encode(seed.code)[:longest], np.int32)
    return Document(seed.id, seed.language, CODE, ids, licence=seed.licence)


def encoded(
    items: Iterable[Seed | Example], tokenizer_folder: Path, longest: int, processes: int | None = None
) -> Iterator[Document]:
    """A document for each item, in order; code is cut at `longest` tokens. After the first few thousand the work is
    spread over `processes` (all cores by default), of which each opens the tokenizer in `tokenizer_folder`."""
    processes = processes or os.cpu_count() or 1
    waiting = iter(items)
    _open(tokenizer_folder, longest)
    yield from map(_encode, itertools.islice(waiting, _ALONE) if processes > 1 else waiting)
    with ExitStack() as stack:
        pool: ProcessPoolExecutor | None = None
        while window := list(itertools.islice(waiting, 4 * processes * _CHUNK)):
            # A fork would copy threads of JAX's that hold locks.
            pool = pool or stack.enter_context(
                ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _open, (tokenizer_folder, longest))
            )
            yield from pool.map(_encode, window, chunksize=_CHUNK)


_opened: tuple[Path, Tokenizer, int] | None = None


def _open(folder: Path, longest: int) -> None:
    global _opened
    _opened = (folder, load_tokenizer(folder), longest)


def _encode(item: Seed | Example) -> Document:
    assert _opened is not None
    _, tokenizer, longest = _opened
    if isinstance(item, Seed):
        return code_document(tokenizer, item, longest)
    return example_document(tokenizer, item)
