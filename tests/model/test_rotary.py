"""Rotary frequencies, against the formulas written out in float64 NumPy."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from demiurgic_jax.model.attention import rotary_frequencies, rotary_tables, rotate
from demiurgic_jax.model.config import ModelConfig, RopeScaling

CONFIG = ModelConfig(16, 64, 1, 1, 1, 128, 16, rope_theta=500_000.0)


def plain(config):
    return np.array([config.rope_theta ** (-2 * i / config.head_dim) for i in range(config.head_dim // 2)])


def llama3(config):
    """Channel by channel, as the model card tells it."""
    scaling = config.rope_scaling
    scaled = []
    for frequency in plain(config):
        wavelength = 2 * np.pi / frequency
        if wavelength < scaling.original_context / scaling.high_freq_factor:
            scaled.append(frequency)
        elif wavelength > scaling.original_context / scaling.low_freq_factor:
            scaled.append(frequency / scaling.factor)
        else:
            smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            scaled.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return np.array(scaled)


@pytest.mark.parametrize("theta", [1e4, 1e5, 5e5])
@pytest.mark.parametrize("head_dim", [8, 64, 128])
def test_plain_frequencies(theta, head_dim):
    config = replace(CONFIG, rope_theta=theta, head_dim=head_dim)
    np.testing.assert_allclose(rotary_frequencies(config), plain(config), rtol=2e-6)


def test_linear_scaling_divides_every_frequency():
    config = replace(CONFIG, rope_scaling=RopeScaling("linear", 4.0))
    np.testing.assert_allclose(rotary_frequencies(config), plain(config) / 4, rtol=2e-6)


@pytest.mark.parametrize(
    "scaling",
    [RopeScaling("llama3", 8.0), RopeScaling("llama3", 32.0, 8192, 1.0, 4.0), RopeScaling("llama3", 2.0, 512)],
)
def test_llama3_scaling_keeps_the_fast_and_stretches_the_slow(scaling):
    config = replace(CONFIG, rope_scaling=scaling)
    expected = llama3(config)
    assert len(set(np.round(plain(config) / expected, 6))) > 3, "all three bands are in this test"
    np.testing.assert_allclose(rotary_frequencies(config), expected, rtol=5e-6)


def test_rotation_depends_on_distance_alone():
    """q·k after rotation is the same wherever the two stand, and is what complex numbers say."""
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 1, 1, 128)).astype(np.float32)

    def score(at_q, at_k):
        turned_q = rotate(jnp.asarray(q), rotary_tables(CONFIG, jnp.array([[at_q]])))
        turned_k = rotate(jnp.asarray(k), rotary_tables(CONFIG, jnp.array([[at_k]])))
        return float(jnp.sum(turned_q * turned_k))

    complex_q, complex_k = (x[0, 0, 0, :64] + 1j * x[0, 0, 0, 64:] for x in (q, k))
    for distance in (0, 1, 17):
        expected = np.sum(complex_q * np.conj(complex_k) * np.exp(1j * distance * plain(CONFIG))).real
        for start in (0, 100, 1000):
            assert score(start + distance, start) == pytest.approx(expected, abs=2e-3)
