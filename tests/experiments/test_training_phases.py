"""config.phases and config.init.ladder lay themselves over config.train, and mistakes are named."""

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import named_config
from experiments.configuration import load_config
from experiments.training_phases import phase_configs


def with_phases(text: str):
    return load_config("quickstart_scratch", [("phases", text)])


def test_without_phases_it_is_what_train_says():
    (only,) = phase_configs(load_config("quickstart_scratch"))
    assert (only.name, only.train.steps, only.train.batch_size) == ("", 300, 8)


def test_each_phase_changes_what_it_names():
    code, skill = phase_configs(
        with_phases(
            "({'name': 'code', 'steps': 50}, {'name': 'fix', 'mixture': {'sets': ('shards/fix',)}, 'context': 128, "
            "'batch_size': 16, 'optimizer': {'learning_rate': 1}, 'loss': {'z_loss': 0.5}},)"
        )
    )
    assert (code.name, code.train.steps, code.train.optimizer.learning_rate) == ("code", 50, 2e-3)
    assert (skill.train.mixture.sets, code.train.mixture.sets) == (("shards/fix",), ("train",))
    assert (skill.train.steps, skill.train.context, skill.train.batch_size) == (300, 128, 16)
    assert (skill.train.optimizer.learning_rate, skill.train.optimizer.warmup_steps) == (1.0, 20)
    assert (skill.train.loss.z_loss, code.train.loss.z_loss) == (0.5, 1e-4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("({'name': 'a', 'stesp': 3},)", r"config.phases\[0\] has the unknown field 'stesp': did you mean steps\?"),
        ("({'name': 'a', 'steps': '3'},)", r"config.phases\[0\].steps='3' is no int, as train.steps is"),
        ("({'name': 'a', 'loss': 3},)", r"config.phases\[0\].loss is 3: write a dict of its fields"),
        ("({'name': 'a', 'loss': {'zloss': 3}},)", r"config.phases\[0\].loss has the unknown field 'zloss'"),
        ("('a',)", r"config.phases\[0\] is 'a': write a dict like"),
        ("({'name': 'a'}, {'name': 'a'})", "give each a name of its own"),
        ("({'name': 'a', 'steps': 0},)", "train.steps=0 must be at least 1"),
    ],
)
def test_mistakes_are_named(text, said):
    with pytest.raises(UserError, match=said):
        phase_configs(with_phases(text))


def test_the_ladder_carries_every_phase_to_the_size():
    config = load_config("quickstart_scratch", [("init.size", "135m"), ("init.ladder", "tiny")])
    (small,), (large,) = phase_configs(config), phase_configs(config, named_config("135m"))
    assert large.train.batch_size > small.train.batch_size
    assert large.train.optimizer.learning_rate < small.train.optimizer.learning_rate
