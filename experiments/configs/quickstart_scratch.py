"""The way of a paid API, on a laptop: a tokenizer and a network of one's own, from text alone.

    python -m experiments.run --config=quickstart_scratch

The teacher is asked over HTTP and gives nothing but text; SentencePiece is trained on the code and the
answers; the student starts from random numbers. Minutes on two cores teach it the look of Python, not
its meaning. To ask a paid teacher instead:

    export OPENAI_API_KEY=...
    python -m experiments.run --config=quickstart_scratch --workdir=runs/paid \\
        --config.teacher.path= --config.teacher.url=https://api.openai.com/v1 --config.teacher.model=MODEL \\
        --config.teacher.api_key_env=OPENAI_API_KEY --config.teacher.budget_dollars=5.0 \\
        --config.teacher.dollars_per_million_input=0.4 --config.teacher.dollars_per_million_output=1.6
"""

from ml_collections import ConfigDict

from experiments.configs import quickstart


def get_config() -> ConfigDict:
    """`quickstart` with the student's beginnings replaced."""
    config = quickstart.get_config()
    config.tokenizer.update({"kind": "sentencepiece", "vocab_size": 4096})
    config.shards.update({"soft_targets": 0, "code_tokens": 400_000, "heldout_code_tokens": 10_000})
    config.init.update({"kind": "random", "layers": 0, "size": "tiny"})
    config.train.update({"steps": 300, "batch_size": 8, "context": 256, "soft_targets": 0, "checkpoint_every": 100})
    config.train.update({"eval_every": 50})
    config.train.optimizer.update({"learning_rate": 2e-3, "warmup_steps": 20, "weight_decay": 0.1})
    config.train.loss.update({"distill_weight": 0.0, "z_loss": 1e-4})
    return config
