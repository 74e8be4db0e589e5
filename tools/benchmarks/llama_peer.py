"""llama.cpp as a peer: run by an interpreter of its own, asked line by line.

    python -m tools.benchmarks.llama_peer MODEL-F32.gguf      answers [PROMPT IDS, STREAMS, TOKENS] on standard input

Greedy, over the C interface, so that several streams share one batch a step, as its server does it.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

CONTEXT = 1024  # of each stream


class HeldParams:
    """Parameters in memory as what exports read."""

    def __init__(self, model: Any) -> None:
        self.config, self.tokenizer = model.config, model.tokenizer
        self._arrays = dict(_leaves(model.params, ()))
        self.dtypes: Mapping[tuple[str, ...], np.dtype] = {path: x.dtype for path, x in self._arrays.items()}

    def array(self, path: tuple[str, ...]) -> "HeldArray":
        return HeldArray(self._arrays[path])


class HeldArray:
    """One of them; nothing can have happened to it since it was made."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def rows(self, start: int, stop: int) -> np.ndarray:
        return self._values[start:stop]

    def finish(self) -> None:
        pass


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _leaves(child, (*path, name))
    else:
        yield path, np.asarray(node)


class LlamaCpp:
    """The peer in its process. `cpu_seconds` is what it has computed for so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asked, self._answered = process.stdin, process.stdout
        self.cpu_seconds = 0.0

    def run(self, prompt: list[int], streams: int, tokens: int) -> int:
        """So many streams with this prompt, once; the tokens made (those read, where only one is made)."""
        print(json.dumps([prompt, streams, tokens]), file=self._asked, flush=True)
        count, self.cpu_seconds = json.loads(self._answered.readline())
        return count

    def close(self) -> None:
        """Ends the process."""
        self._asked.close()


@contextmanager
def llama_cpp(python: str, model: Any, threads: int) -> Iterator[LlamaCpp]:
    """llama.cpp with the weights of `model` in F32, for as long as the context lasts."""
    from demiurgic_jax.interop.gguf_export import export_gguf
    from demiurgic_jax.interop.model_card import CardFacts

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model-f32.gguf"
        export_gguf(HeldParams(model), path, CardFacts(name="benchmark"), kind="float32")
        command = [python, __file__, str(path), str(threads)]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, text=True, **pipes) as process:
            peer = LlamaCpp(process)
            yield peer
            peer.close()


def answer(path: str, threads: int) -> None:
    """The program in the other interpreter."""
    import llama_cpp

    settings = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(path.encode(), settings)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    for line in sys.stdin:
        prompt, streams, tokens = json.loads(line)
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = CONTEXT * streams, max(512, len(prompt)), 512
        wanted.n_seq_max, wanted.n_threads, wanted.n_threads_batch = streams, threads, threads
        context = llama_cpp.llama_init_from_model(model, wanted)
        batch = llama_cpp.llama_batch_init(wanted.n_batch, 0, streams)

        def step(entries: list[tuple[int, int, int, bool]], batch: Any = batch, context: Any = context) -> list[int]:
            """(token, position, stream, whether what follows is wanted) each; the likeliest that follow."""
            batch.n_tokens = len(entries)
            for i, (token, position, stream, last) in enumerate(entries):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, last
                batch.seq_id[i][0] = stream
            if llama_cpp.llama_decode(context, batch):
                raise RuntimeError("llama_decode failed")
            return [
                int(np.argmax(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), shape=(size,))))
                for i, entry in enumerate(entries)
                if entry[3]
            ]

        newest = []
        for stream in range(streams):
            last = len(prompt) - 1
            newest += step([(token, i, stream, i == last) for i, token in enumerate(prompt)])
        for made in range(1, tokens):
            newest = step([(token, len(prompt) + made - 1, stream, True) for stream, token in enumerate(newest)])
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        print(json.dumps([streams * tokens if tokens > 1 else len(prompt), time.process_time()]), flush=True)


if __name__ == "__main__":
    answer(sys.argv[1], int(sys.argv[2]))
