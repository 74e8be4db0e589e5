"""What a small size was tuned for is carried to a large one by one rule."""

import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import named_config
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.ladder import on_ladder, parameters_without_embeddings
from demiurgic_jax.training.optimizer import OptimizerConfig

SMALL = TrainConfig(4000, 64, 2048, optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100))


def test_tokens_per_parameter_stay_and_rate_and_batch_follow_compute():
    small, large = named_config("135m"), named_config("7b")
    scaled = on_ladder(SMALL, small, large)
    growth = parameters_without_embeddings(large) / parameters_without_embeddings(small)
    per_parameter = [
        config.steps * config.batch_size * config.context / parameters_without_embeddings(model)
        for config, model in ((SMALL, small), (scaled, large))
    ]
    assert per_parameter[1] == pytest.approx(per_parameter[0], rel=1e-3)
    compute = growth**2
    assert scaled.optimizer.learning_rate == pytest.approx(1e-3 * compute**-0.125)
    assert scaled.batch_size / 64 == pytest.approx(compute**0.3271, rel=2**0.5 - 1)
    assert scaled.batch_size in [64 * 2**k for k in range(12)]
    assert scaled.optimizer.warmup_steps / scaled.steps == pytest.approx(100 / 4000, rel=0.01)
    assert scaled.context == SMALL.context


def test_the_way_down_is_the_way_up_reversed():
    small, large = named_config("135m"), named_config("1b")
    back = on_ladder(on_ladder(SMALL, small, large), large, small)
    assert (back.batch_size, back.optimizer.learning_rate) == (64, pytest.approx(1e-3))
    assert back.steps == pytest.approx(SMALL.steps, abs=1)
    assert on_ladder(SMALL, small, small) == SMALL


def test_parameters_are_counted_without_the_tables():
    assert parameters_without_embeddings(named_config("7b")) == 6738415616 - 2 * 32000 * 4096
    tied = named_config("135m")
    assert parameters_without_embeddings(tied) == tied.num_parameters - 49152 * 576


def test_a_batch_that_would_be_half_a_row_is_refused():
    with pytest.raises(UserError, match=r"train\.batch_size=64 would be .* rows at the smaller size"):
        on_ladder(SMALL, named_config("70b"), named_config("tiny"))
