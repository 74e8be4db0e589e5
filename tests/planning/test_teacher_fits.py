"""A teacher that does not fit beside its student is refused with the bytes that are missing."""

import re
from dataclasses import replace

import jax
import pytest

from demiurgic_jax.errors import UserError
from demiurgic_jax.model.config import named_config
from demiurgic_jax.planning.online_teacher import (
    device_bytes,
    hidden_bytes,
    require_teacher_fits,
    student_bytes,
    teacher_bytes,
)
from demiurgic_jax.sharding.mesh import MeshShape
from demiurgic_jax.training.config import TrainConfig
from demiurgic_jax.training.hidden_matching import HiddenConfig
from demiurgic_jax.training.losses import LossConfig
from demiurgic_jax.training.online_teacher import TeacherConfig

STUDENT, TEACHER = named_config("tiny"), replace(named_config("135m"), num_heads=8, num_kv_heads=4)
TRAIN = TrainConfig(
    steps=1000,
    batch_size=8,
    context=64,
    compute_dtype="bfloat16",
    teacher=TeacherConfig(online=True),
    loss=LossConfig(1.0),
    mesh=MeshShape(data=4, fsdp=2),
)


def test_the_refusal_says_by_how_much():
    needed = student_bytes(TRAIN, STUDENT) + teacher_bytes(TRAIN, STUDENT, TEACHER)
    require_teacher_fits(TRAIN, STUDENT, TEACHER, needed + 1)
    with pytest.raises(UserError, match=r"does not fit by 0\.025 GB") as refusal:
        require_teacher_fits(TRAIN, STUDENT, TEACHER, needed - 25e6)
    assert "set train.teacher.weights=int8" in str(refusal.value)
    of, student, teacher = map(float, re.findall(r"\d+\.\d+", str(refusal.value))[1:])
    assert student + teacher - of == pytest.approx(0.025, abs=2e-3)


def test_weights_in_eight_bits_and_more_devices_need_less():
    plain = teacher_bytes(TRAIN, STUDENT, TEACHER)
    eight = teacher_bytes(replace(TRAIN, teacher=TeacherConfig(True, "int8")), STUDENT, TEACHER)
    spread = teacher_bytes(replace(TRAIN, mesh=MeshShape(fsdp=8)), STUDENT, TEACHER)
    assert eight < 0.6 * plain
    assert spread < 0.3 * plain


def test_this_machine_has_room_for_a_small_one():
    assert device_bytes(jax.local_devices()[0]) > 1e8
    require_teacher_fits(TRAIN, STUDENT, TEACHER)


def test_matched_hidden_states_are_counted():
    """Two pairs: a projection with two moments and a gradient, spread over fsdp, and the states in bfloat16."""
    matched = replace(TRAIN, hidden=HiddenConfig(1.0, layers=((0, 3), (1, 9))))
    projection = 4 * 2 * STUDENT.embed_dim * TEACHER.embed_dim * 4 / 2
    states = 2 * 64 * 2 * (2 * STUDENT.embed_dim + TEACHER.embed_dim)
    assert hidden_bytes(matched, STUDENT, TEACHER) == pytest.approx(projection + states, rel=0.01)
    assert hidden_bytes(TRAIN, STUDENT, TEACHER) == 0
