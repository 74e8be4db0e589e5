"""Serves the small network of the tests, as `demiurgic serve` does with a checkpoint: PORT [DRAIN_SECONDS]."""

import dataclasses
import sys

import jax

from demiurgic_jax.data.sentencepiece_tokenizer import train_sentencepiece
from demiurgic_jax.model.config import named_config
from demiurgic_jax.model.decoder import Decoder, init_params
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serve
from demiurgic_jax.sampling.server_config import ServerConfig


def main(port: int, drain_seconds: float) -> None:
    text = "def add(a, b):\n    return a + b\n\n\nfor number in range(10):\n    print('Grüße, 世界', add(number, 1))\n"
    tokenizer = train_sentencepiece([text * 20], 420)
    config = dataclasses.replace(named_config("tiny"), vocab_size=tokenizer.vocab_size, num_layers=1)
    params = init_params(Decoder(config), jax.random.key(0))
    stops = jax.numpy.asarray(tokenizer.special.stops)
    params = params | {"embedding": params["embedding"].at[stops].set(0)}
    with Engine(config, params, tokenizer, slots=2) as engine:
        serve(engine, "tiny", "127.0.0.1", port, ServerConfig(drain_seconds=drain_seconds))
    print("ended", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
