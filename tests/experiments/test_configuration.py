"""Config names and overrides: what is right is taken, what is wrong gets one sentence with the mend."""

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.training.config import TrainConfig
from experiments.configuration import as_dataclass, config_names, field_values, load_config
from experiments.run import main, parse_arguments


@pytest.mark.parametrize("name", config_names())
def test_every_named_config_is_locked_and_its_training_fields_are_known(name):
    config = load_config(name)
    assert config.is_locked
    assert as_dataclass(TrainConfig, config.train, "train").steps > 0


def test_override_sets_a_nested_field_with_its_type():
    overrides = [
        ("train.optimizer.learning_rate", "1"),
        ("train.scan_layers", "false"),
        ("seeds.sources", "src"),
        ("train.steps", "7"),
    ]
    config = load_config("quickstart", overrides)
    assert config.train.optimizer.learning_rate == 1.0
    assert isinstance(config.train.optimizer.learning_rate, float)
    assert config.train.scan_layers is False
    assert (config.seeds.sources, config.train.steps) == (("src",), 7)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([("train.stepps", "7")], "did you mean config.train.steps?"),
        ([("train.optimizer", "7")], "its fields are train.optimizer.beta1"),
        ([("train.steps", "many")], "config.train.steps=many is no int: its value is now"),
        ([("train.steps", "7.5")], "is no int"),
        ([("train.scan_layers", "1")], "is no bool"),
    ],
)
def test_wrong_override_is_refused_with_the_mend(overrides, said):
    with pytest.raises(UserError, match="config") as refusal:
        load_config("quickstart", overrides)
    assert said in str(refusal.value)


def test_unknown_config_lists_the_known_and_suggests_the_nearest():
    with pytest.raises(UserError) as refusal:
        load_config("quikstart")
    assert "did you mean quickstart?" in str(refusal.value)
    assert all(name in str(refusal.value) for name in config_names())


def test_arguments_take_overrides_with_and_without_an_equals_sign():
    arguments, overrides = parse_arguments(
        ["--config=quickstart", "--config.train.steps=3", "--config.seeds.sources", "src", "--stages=seeds"]
    )
    assert arguments.stages == "seeds"
    assert overrides == [("train.steps", "3"), ("seeds.sources", "src")]


@pytest.mark.parametrize(
    "argv",
    [
        ["--config=nowhere"],
        ["--config=quickstart", "--config.no.such=1"],
        ["--config=quickstart", "--frobnicate"],
        ["--config=quickstart", "--stages=seeds,cook"],
    ],
)
def test_a_users_mistake_exits_2_with_one_line(argv, capsys, tmp_path):
    assert main([*argv, f"--workdir={tmp_path}/run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_every_field_of_the_quickstart_is_read_by_some_stage():
    """An option that does nothing is a defect: each field's name occurs in the code that runs the stages."""
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    code = "".join(
        path.read_text()
        for folder in ("experiments", "demiurgic_jax/training", "demiurgic_jax/sharding", "demiurgic_jax/data")
        for path in (root / folder).rglob("*.py")
        if "configs" not in path.relative_to(root).parts
    )
    for name, _ in field_values(load_config("quickstart")):
        leaf = name.rsplit(".", 1)[-1]
        if not name.startswith("teach.tasks."):
            assert leaf in code, f"config.{name} is read nowhere"
