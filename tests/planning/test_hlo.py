"""What is read off a compiled program is what it does: loops counted, collectives by the bytes that they send."""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demiurgic_jax.planning.hlo import count, group_size, parse, trip_count

AOT_REPORT = Path(__file__).parents[3] / "shared" / "bench" / "aot_report.py"
N = 8

# As libtpu prints it: no trip counts, a loop that counts from 1 to 7 in steps of 2, an all-gather that runs beside
# other work (printed where it starts, goes on and ends), two collectives of a shard_map that share a channel, a
# reduce-scatter written as a fusion.
TPU_PROGRAM = """HloModule jit_step
%start (param_0: bf16[4,8]) -> (bf16[4,8], bf16[16,8]) {
  %param_0 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.1 = bf16[16,8]{1,0} all-gather(%param_0), channel_id=7, replica_groups=mesh['axis_0'=4] {'axis_0'}
  ROOT %custom-call.1 = (bf16[4,8], bf16[16,8]) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}
%async_collective_fusion.5 (param_0: bf16[4,8]) -> bf16[16,8] {
  %param_0 = bf16[4,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[16,8]{1,0} all-gather(%param_0), channel_id=7, replica_groups=mesh['axis_0'=4] {'axis_0'}
}
%done (param_0: bf16[4,8]) -> bf16[16,8] {
  %param_0 = bf16[4,8]{1,0} parameter(0)
  %all-gather.3 = bf16[16,8]{1,0} all-gather(%param_0), channel_id=7, replica_groups=mesh['axis_0'=4] {'axis_0'}
  ROOT %custom-call.2 = bf16[16,8] custom-call(%all-gather.3), custom_call_target="AsyncCollectiveDone"
}
%all-reduce-scatter.1 (input: bf16[16,8]) -> bf16[4,8] {
  %input = bf16[16,8]{1,0} parameter(0)
  %all-reduce.1 = bf16[16,8]{1,0} all-reduce(%input), channel_id=9, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %slice = bf16[4,8]{1,0} slice(%all-reduce.1), slice={[0:4], [0:8]}
}
%condition (state: (s32[], bf16[4,8], s32[])) -> pred[] {
  %state = (s32[]{:T(128)}, bf16[4,8]{1,0}, s32[]{:T(128)}) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %limit = s32[] get-tuple-element(%state), index=2
  ROOT %less = pred[] compare(%counter, %limit), direction=LT
}
%body (state: (s32[], bf16[4,8], s32[])) -> (s32[], bf16[4,8], s32[]) {
  %state = (s32[]{:T(128)}, bf16[4,8]{1,0}, s32[]{:T(128)}) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %two = s32[] constant(2)
  %next = s32[] add(%counter, %two)
  %x = bf16[4,8]{1,0} get-tuple-element(%state), index=1
  %begun = (bf16[4,8], bf16[16,8]) fusion(%x), kind=kCustom, calls=%start
  %going = bf16[16,8]{1,0} fusion(%x), kind=kOutput, calls=%async_collective_fusion.5
  %ended = bf16[16,8]{1,0} fusion(%x), kind=kCustom, calls=%done, backend_config={"estimated_cycles":"100"}
  %cut = bf16[4,8]{1,0} fusion(%ended), kind=kCustom, calls=%all-reduce-scatter.1
  %limit = s32[] get-tuple-element(%state), index=2
  ROOT %tuple = (s32[], bf16[4,8], s32[]) tuple(%next, %cut, %limit)
}
ENTRY %main (x: bf16[4,8], w: bf16[8,8]) -> bf16[4,8] {
  %x = bf16[4,8]{1,0} parameter(0)
  %w = bf16[8,8]{1,0} parameter(1)
  %one = s32[] constant(1)
  %copied = s32[] copy(%one)
  %seven = s32[] constant(7)
  %scattered.1 = bf16[2,8]{1,0} reduce-scatter(%x), channel_id=1, replica_groups=[4,2]<=[8], to_apply=%add
  %scattered.2 = bf16[2,8]{1,0} reduce-scatter(%x), channel_id=1, replica_groups=[4,2]<=[8], to_apply=%add
  %product = f32[4,8]{1,0} convolution(%x, %w), dim_labels=bf_io->bf
  %state = (s32[], bf16[4,8], s32[]) tuple(%copied, %x, %seven)
  %loop = (s32[], bf16[4,8], s32[]) while(%state), condition=%condition, body=%body
  ROOT %out = bf16[4,8]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_tpu_program_is_read_as_libtpu_prints_it():
    counts = count(parse(TPU_PROGRAM))
    turns, whole, shard = 3, 16 * 8 * 2, 4 * 8 * 2
    assert counts.matmul_flops == 2 * 4 * 8 * 8
    assert counts.wire_bytes == {
        "all-gather": turns * 3 * shard,
        "reduce-scatter": turns * whole * 3 // 4 + 2 * shard // 2,
    }
    assert counts.estimated_cycles == turns * 100
    assert counts.unread_loops == []


# A layer's input on its way to the host's memory and back, in a loop of two turns, as libtpu prints it; and a sum over
# two slices.
HOST_PROGRAM = """HloModule jit_step
%condition (state: (s32[], f32[2,4,8], f32[4,8])) -> pred[] {
  %state = (s32[], f32[2,4,8]{2,1,0:T(8,128)S(5)}, f32[4,8]{1,0:T(8,128)}) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %two = s32[] constant(2)
  ROOT %less = pred[] compare(%counter, %two), direction=LT
}
%body (state: (s32[], f32[2,4,8], f32[4,8])) -> (s32[], f32[2,4,8], f32[4,8]) {
  %state = (s32[], f32[2,4,8]{2,1,0:T(8,128)S(5)}, f32[4,8]{1,0:T(8,128)}) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %kept = f32[2,4,8]{2,1,0:T(8,128)S(5)} get-tuple-element(%state), index=1
  %x = f32[4,8]{1,0:T(8,128)} get-tuple-element(%state), index=2
  %row = f32[1,4,8]{2,1,0:T(8,128)} bitcast(%x)
  %zero = s32[] constant(0)
  %one = s32[] constant(1)
  %next = s32[] add(%counter, %one)
  %dynamic-update-slice-start = ((f32[2,4,8]{2,1,0:T(8,128)S(5)}, f32[1,4,8]{2,1,0:T(8,128)}, s32[]), f32[2,4,8]{2,1,0:T(8,128)S(5)}, u32[]{:S(2)}) dynamic-update-slice-start(%kept, %row, %counter, %zero, %zero)
  %dynamic-update-slice-done = f32[2,4,8]{2,1,0:T(8,128)S(5)} dynamic-update-slice-done(%dynamic-update-slice-start)
  ROOT %tuple = (s32[], f32[2,4,8], f32[4,8]) tuple(%next, %dynamic-update-slice-done, %x)
}
ENTRY %main (x: f32[4,8]) -> f32[1,4,8] {
  %x = f32[4,8]{1,0:T(8,128)} parameter(0)
  %zero = s32[] constant(0)
  %buffer = f32[2,4,8]{2,1,0:T(8,128)S(5)} custom-call(), custom_call_target="AllocateBuffer"
  %state = (s32[], f32[2,4,8]{2,1,0:T(8,128)S(5)}, f32[4,8]{1,0:T(8,128)}) tuple(%zero, %buffer, %x)
  %loop = (s32[], f32[2,4,8]{2,1,0:T(8,128)S(5)}, f32[4,8]{1,0:T(8,128)}) while(%state), condition=%condition, body=%body
  %kept = f32[2,4,8]{2,1,0:T(8,128)S(5)} get-tuple-element(%loop), index=1
  %dynamic-slice-start = ((f32[2,4,8]{2,1,0:T(8,128)S(5)}, s32[]), f32[1,4,8]{2,1,0:T(8,128)}, u32[]{:S(2)}) dynamic-slice-start(%kept, %zero, %zero, %zero), dynamic_slice_sizes={1,4,8}
  %row = f32[1,4,8]{2,1,0:T(8,128)} dynamic-slice-done(%dynamic-slice-start)
  %copy-start = (f32[4,8]{1,0:T(8,128)S(5)}, f32[4,8]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
  %copy-done = f32[4,8]{1,0:T(8,128)S(5)} copy-done(%copy-start)
  %copy-start.1 = (f32[4,8]{1,0:T(8,128)}, f32[4,8]{1,0:T(8,128)S(5)}, u32[]{:S(2)}) copy-start(%copy-done)
  %here = f32[4,8]{0,1:T(8,128)} copy(%x)
  %token = token[] after-all()
  %send = (f32[4,8]{1,0}, u32[], token[]) send(%here, %token), is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,4}x{0:15}",_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %out = f32[1,4,8]{2,1,0:T(8,128)} copy(%row)
}
"""  # noqa: E501


def test_bytes_to_the_host_and_back_and_to_other_slices_are_counted():
    counts = count(parse(HOST_PROGRAM))
    array = 4 * 8 * 4
    assert counts.host_bytes == (2 + 1) * array + 2 * array
    assert counts.dcn_bytes == array
    assert counts.wire_bytes == {}


def test_a_loop_without_a_readable_count_is_said():
    counts = count(parse(TPU_PROGRAM.replace("%seven = s32[] constant(7)", "%seven = s32[] parameter(2)")))
    assert counts.unread_loops == ["loop"]
    assert counts.estimated_cycles == 100


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return Mesh(np.asarray(jax.devices()[:N]), ("x",))


def compiled_text(function, *shapes, sharding=None) -> str:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding) for shape in shapes]
    return jax.jit(function).lower(*arguments).compile().as_text()


def test_matmuls_in_nested_loops_count_as_often_as_they_run():
    def step(x, w):
        def inner(x, _):
            return jnp.tanh(x @ w), None

        def outer(x, _):
            return jax.lax.scan(inner, x, None, length=3)

        return jax.lax.scan(outer, x, None, length=5)[0]

    program = parse(compiled_text(step, (64, 96), (96, 96)))
    assert count(program).matmul_flops == 15 * 2 * 64 * 96 * 96
    loops = [(body, x) for body in program.computations.values() for x in body.values() if x.opcode == "while"]
    assert sorted(trip_count(program, *loop) for loop in loops) == [3, 5]


@pytest.mark.parametrize(
    ("collective", "kind", "sent"),
    [
        (lambda x: jax.lax.psum(x, "x"), "all-reduce", 2 * (N - 1) / N),
        (lambda x: jax.lax.all_gather(x, "x", tiled=True), "all-gather", N - 1),
        (lambda x: jax.lax.psum_scatter(x, "x", tiled=True), "reduce-scatter", (N - 1) / N),
    ],
)
def test_a_collective_sends_the_bytes_of_a_ring(mesh, collective, kind, sent):
    local = (64, 32)
    mapped = jax.shard_map(
        collective, mesh=mesh, in_specs=PartitionSpec("x"), out_specs=PartitionSpec(), check_vma=False
    )
    text = compiled_text(mapped, (local[0] * N, local[1]), sharding=NamedSharding(mesh, PartitionSpec("x")))
    assert count(parse(text)).wire_bytes == {kind: 64 * 32 * 4 * sent}


def test_group_sizes_in_every_notation():
    assert group_size("replica_groups={{0,1,2},{3,4,5}}, x") == 3
    assert group_size("replica_groups=[2,8]<=[16], x") == 8
    assert group_size("replica_groups=mesh['a'=4,'b'=2] {'a','b'}, x") == 8
    assert group_size("replica_groups=mesh['a'=8] {'a':(2)4}, x") == 4


@pytest.mark.skipif(not AOT_REPORT.exists(), reason="needs the reference reader beside the repository")
def test_another_reader_counts_the_same(mesh, monkeypatch):
    monkeypatch.syspath_prepend(str(AOT_REPORT.parent))
    reference = __import__("aot_report")

    @partial(jax.shard_map, mesh=mesh, in_specs=(PartitionSpec("x"), PartitionSpec()), out_specs=PartitionSpec("x"))
    def step(x, w):
        def turn(x, _):
            return jnp.tanh(x @ w) + jax.lax.pmean(x, "x"), None

        return jax.lax.scan(turn, x, None, length=4)[0]

    arguments = [
        jax.ShapeDtypeStruct((256, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("x"))),
        jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec())),
    ]
    text = jax.jit(step).lower(*arguments).compile().as_text()
    theirs, ours = reference.analyze_hlo(text, N), count(parse(text))
    assert ours.matmul_flops == theirs["matmul_flops_hlo"]
    assert ours.wire_bytes == {kind: row["wire_bytes"] for kind, row in theirs["collectives"].items()}
    assert "aot_report" in sys.modules
