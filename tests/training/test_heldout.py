"""Held-out means by set, language and task are those of these documents alone."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import write_shards
from demiurgic_jax.errors import UserError
from demiurgic_jax.model.decoder import Decoder
from demiurgic_jax.sharding.mesh import MeshShape, make_mesh
from demiurgic_jax.sharding.placement import put_batch
from demiurgic_jax.training.heldout import evaluate_groups, heldout_groups
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.optimizer import OptimizerConfig, make_optimizer
from demiurgic_jax.training.state import abstract_state
from demiurgic_jax.training.step import make_eval_step, means

SOURCES = {"row_length": 32, "seed": 0, "soft_targets": 4}
LABELS = [("python", "complete"), ("python", "explain"), ("rust", "explain")]


@pytest.fixture(scope="module")
def mixed(heldout_set):
    """Documents of three groups."""
    made = [heldout_set.read(number) for number in range(len(heldout_set))]
    labels = [LABELS[number % 3] for number in range(len(made))]
    return [replace(each, language=label[0], task=label[1]) for each, label in zip(made, labels, strict=True)]


@pytest.fixture(scope="module")
def written(tokenizer, tmp_path_factory):
    def write(some):
        folder = tmp_path_factory.mktemp("heldout") / "set"
        return write_shards(folder, some, tokenizer=tokenizer, num_shards=1, provenance={})

    return write


@pytest.fixture(scope="module")
def evaluation(model, params):
    """What evaluates sets, and what evaluates one set without grouping."""
    mesh = make_mesh(MeshShape(data=1, fsdp=1), jax.devices()[:1])
    abstract = abstract_state(model, make_optimizer(OptimizerConfig(warmup_steps=1), 10), mesh)
    step = make_eval_step(Decoder(model), LossConfig(chunk_tokens=16), mesh, abstract)

    def grouped(sets):
        return evaluate_groups(step, params, heldout_groups(sets, **SOURCES), 2, mesh)

    def plain(shard_set):
        batches = Loader(shard_set, batch_size=1, **SOURCES).all_rows(2)
        sums = [jax.device_get(step(params, put_batch(batch, mesh))) for batch in batches]
        return means(jax.tree.map(lambda *each: np.sum(each), *sums))

    return grouped, plain


def test_each_part_is_what_its_documents_alone_give(mixed, written, evaluation):
    grouped, plain = evaluation
    values = grouped({"all": written(mixed)})
    parts = {
        "heldout": mixed,
        "heldout/language/python": [each for each in mixed if each.language == "python"],
        "heldout/language/rust": [each for each in mixed if each.language == "rust"],
        "heldout/task/complete": [each for each in mixed if each.task == "complete"],
        "heldout/task/explain": [each for each in mixed if each.task == "explain"],
    }
    for name, some in parts.items():
        alone = plain(written(some))
        for field in ("cross_entropy", "kl", "accuracy", "loss_tokens"):
            assert values[f"{name}/{field}"] == pytest.approx(float(alone[field]), rel=1e-5), (name, field)
        assert values[f"{name}/perplexity"] == pytest.approx(np.exp(float(alone["cross_entropy"])), rel=1e-5)
    assert {name.rpartition("/")[0] for name in values} == set(parts)


def test_of_several_sets_each_has_its_own_means(mixed, written, evaluation):
    grouped, plain = evaluation
    sets = {"code": written(mixed[:12]), "answers": written(mixed[12:])}
    values = grouped(sets)
    for name, shard_set in sets.items():
        alone = float(plain(shard_set)["cross_entropy"])
        assert values[f"heldout/{name}/cross_entropy"] == pytest.approx(alone, rel=1e-5)
    tokens = [values[f"heldout/{name}/loss_tokens"] for name in sets]
    assert values["heldout/loss_tokens"] == sum(tokens)


def test_a_set_that_is_called_like_a_kind_of_means_is_refused(mixed, written):
    with pytest.raises(UserError, match="a held-out set cannot be called 'task': rename its folder"):
        heldout_groups({"task": written(mixed)}, **SOURCES)
