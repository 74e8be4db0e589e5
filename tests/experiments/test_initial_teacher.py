"""--config.init.teacher=PATH: the student begins as that model, whoever is asked."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.imported import import_model
from demiurgic_jax.model.decoder import Decoder, init_params
from experiments.configuration import load_config
from experiments.progress import StageProgress
from experiments.stages.stage import Run
from experiments.stages.tokenizer import TOKENIZER
from experiments.stages.train import TRAIN
from experiments.student import initial_model, origin
from experiments.workdir import Workdir
from tools.plan import planned_model

sys.path.append(str(Path(__file__).parents[1] / "interop"))
from small_gguf import CONFIG, write_small_gguf

PROGRESS = StageProgress("train", Console(quiet=True))


@pytest.fixture
def gguf(tmp_path):
    params = jax.tree.map(np.asarray, init_params(Decoder(CONFIG), jax.random.key(0)))
    write_small_gguf(tmp_path / "other.gguf", params, {})
    return tmp_path / "other.gguf"


def run_with(tmp_path, *overrides, config="1b_distill"):
    config = load_config(config, [("hardware", "v5e-64"), *overrides])
    return Run("1b_distill", config, Workdir(tmp_path / "run", "1b_distill", config))


def tokenizer_of(run):
    return import_model(run.config.init.teacher).tokenizer


def begin(run):
    TRAIN.check(run)
    TRAIN.inputs(run)
    initial_model(run, PROGRESS, tokenizer_of(run))


def test_one_flag_makes_it_the_student_with_its_tokenizer_and_its_licence(gguf, tmp_path):
    run = run_with(tmp_path, ("init.teacher", str(gguf)), ("tokenizer.kind", "teacher"))
    model, params = initial_model(run, PROGRESS, tokenizer_of(run))
    assert model == CONFIG == planned_model(run.config)
    jax.tree.map(np.testing.assert_array_equal, params(), import_model(gguf).params)
    assert origin(run, PROGRESS) == {"init": "teacher", "base_model": "other.gguf", "licence": "mit"}
    (run.workdir.folder("tokenizer") / "files").mkdir(parents=True)
    assert TOKENIZER.execute(run, PROGRESS)["vocab_size"] == CONFIG.vocab_size
    assert TOKENIZER.inputs(run)["teacher"] == str(gguf)
    assert TRAIN.inputs(run)["init"]["teacher"] == str(gguf)


def test_layers_are_kept_as_many_as_asked_for(gguf, tmp_path):
    run = run_with(tmp_path, ("init.teacher", str(gguf)), ("init.layers", "1"))
    model, params = initial_model(run, PROGRESS, tokenizer_of(run))
    assert model.num_layers == 1
    np.testing.assert_array_equal(params()["layers"]["wq"], import_model(gguf).params["layers"]["wq"][:1])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([("init.kind", "checkpoint"), ("init.checkpoint", "runs/a")], "are both set: leave one of them empty"),
        ([("init.layers", "3")], "has 2 layers to keep from"),
        ([("init.ladder", "tiny")], "it needs init.kind=random"),
    ],
)
def test_what_contradicts_it_is_named(overrides, said, gguf, tmp_path):
    with pytest.raises(UserError, match=said):
        begin(run_with(tmp_path, ("init.teacher", str(gguf)), *overrides))


def test_without_it_a_run_that_was_begun_before_is_made_from_the_same(tmp_path):
    assert "teacher" not in TRAIN.inputs(run_with(tmp_path))["init"]
