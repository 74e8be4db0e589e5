"""What an optimized HLO program says of itself, every instruction weighted by how often it runs.

XLA's own `cost_analysis()` counts the body of a loop once, and a decoder is one loop over its layers. Here a
program is read as text: computations of instructions, the loops among them with their trip counts, and from
those the matmul FLOPs, the bytes that each kind of collective sends and the compiler's cycle estimates. All
figures are those of one chip.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute", "collective-broadcast")

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
_BYTES |= {"s64": 8, "u64": 8, "f64": 8, "f8e4m3fn": 1, "f8e5m2": 1}
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"\b(calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")
# How a layout says that its array is in the host's memory.
_HOST_MEMORY = "S(5)"
# Instructions that hand on their first operand's value unchanged.
_TRANSPARENT = ("copy", "convert", "bitcast", "copy-done", "copy-start")


@dataclass(frozen=True)
class Instruction:
    """One line of a computation; `result` and `attributes` are text as printed."""

    name: str
    opcode: str
    result: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    def called(self, role: str) -> str | None:
        """The computation that this instruction names as its `body`, `condition` or what it `calls`."""
        match = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
        return match[1] if match else None


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Program:
    """The computations of a module by name, and the one it starts with."""

    computations: Mapping[str, Computation]
    entry: str


@dataclass
class ProgramCounts:
    """What one run of a program takes of one chip.

    `wire_bytes` are those that a chip sends when every collective goes round a ring of its group, by kind; what it
    sends to other TPU slices is in `dcn_bytes` instead. `host_bytes` are copied to the host's memory or back.
    `estimated_cycles` are the TPU compiler's own (None where it gives none): they leave out kernels that it
    did not write and waiting for other chips. `kernels` counts the runs of such kernels by name, whose FLOPs are
    in `kernel_flops` where they declare them. Loops in `unread_loops` count as one turn.
    """

    matmul_flops: int = 0
    kernel_flops: int = 0
    wire_bytes: dict[str, int] = field(default_factory=dict)
    dcn_bytes: int = 0
    host_bytes: int = 0
    estimated_cycles: int | None = None
    kernels: dict[str, int] = field(default_factory=dict)
    unread_loops: list[str] = field(default_factory=list)


def parse(text: str) -> Program:
    """The module that `Compiled.as_text()` printed. ValueError when it has no entry."""
    computations: dict[str, Computation] = {}
    entry, current = None, None
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif current is not None and (start := _INSTRUCTION.match(line)):
            current[start[2]] = _instruction(start[2], line[start.end() :], bool(start[1]))
    if entry is None:
        raise ValueError("the text is no HLO module: it has no ENTRY computation")
    return Program(computations, entry)


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    end = _closing(text) + 1 if text.startswith("(") else text.index(" ")
    result, rest = text[:end], text[end:].lstrip()
    opcode, opening, _ = rest.partition("(")
    body = rest[len(opcode) :]
    close = _closing(body) if opening else 0
    arguments = body[1:close]
    return Instruction(
        name, opcode, result, tuple(re.findall(r"%([\w.\-]+)", arguments)), arguments, body[close + 1 :], is_root
    )


def _closing(text: str) -> int:
    """Where the parenthesis that `text` begins with is closed."""
    depth = 0
    for match in re.finditer(r"[()]", text):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    return len(text)


def array_shapes(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of every array named in a type as HLO prints it."""
    arrays = ((dtype, dims.replace("<=", "")) for dtype, dims in _ARRAY.findall(text) if dtype in _BYTES)
    return [(dtype, tuple(int(size) for size in dims.split(",") if size)) for dtype, dims in arrays]


def count(program: Program) -> ProgramCounts:
    """Walks the program from its entry; see ProgramCounts for what is added up."""
    counts = ProgramCounts()
    for computation, runs, in_fusion in _walk(program, program.entry, 1, False, counts.unread_loops):
        instructions = program.computations[computation]
        is_echo = _continues_collective(computation, instructions)
        for instruction in instructions.values():
            counts.matmul_flops += runs * matmul_flops(instruction, instructions)
            counts.dcn_bytes += runs * dcn_bytes(instruction, instructions)
            counts.host_bytes += runs * host_bytes(instruction, instructions)
            kind = _collective_kind(instruction, computation)
            if kind is not None and not is_echo:
                sent = runs * wire_bytes(kind, instruction, instructions)
                counts.wire_bytes[kind] = counts.wire_bytes.get(kind, 0) + sent
            elif instruction.opcode == "custom-call":
                _count_kernel(instruction, runs, counts)
            if not in_fusion and (cycles := re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)):
                counts.estimated_cycles = (counts.estimated_cycles or 0) + runs * int(cycles[1])
    return counts


def _walk(
    program: Program, computation: str, runs: int, in_fusion: bool, unread: list[str]
) -> Iterator[tuple[str, int, bool]]:
    """(computation, runs, whether it is the inside of a fusion) for every call of every computation."""
    yield computation, runs, in_fusion
    instructions = program.computations[computation]
    for instruction in instructions.values():
        called = _CALLED.findall(instruction.attributes)
        branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
        # A chip runs one branch. The step's switch is over the parts of a row: the last one sees the most keys, and all
        # chips wait for the one that has it.
        called += [("branch", branches[1].split(",")[-1].strip(" %"))] if branches else []
        for role, name in called:
            # What a reduction applies to each element is no call of its own.
            if name not in program.computations or (role == "to_apply" and instruction.opcode != "call"):
                continue
            if instruction.opcode in ("async-update", "async-done"):
                continue
            times = 1
            if role == "body":
                trips = trip_count(program, instructions, instruction)
                if trips is None:
                    unread.append(instruction.name)
                times = 1 if trips is None else trips
            yield from _walk(program, name, runs * times, in_fusion or instruction.opcode == "fusion", unread)


def trip_count(program: Program, around: Computation, loop: Instruction) -> int | None:
    """Turns of a counted `while`: what the compiler noted, else from its start, step and limit; else None."""
    if known := re.search(r'known_trip_count\D*?"n":"(\d+)"', loop.attributes):
        return int(known[1])
    condition = program.computations.get(loop.called("condition") or "", {})
    body = program.computations.get(loop.called("body") or "", {})
    start_values = around.get(loop.operands[0]) if loop.operands else None
    compare = _comparison(program, condition)
    if compare is None or start_values is None or start_values.opcode != "tuple":
        return None

    def at_start(name: str) -> int | None:
        element = _tuple_element(condition, name)
        return _constant(condition, name) if element is None else _constant(around, start_values.operands[element])

    counter, bound = compare
    start, limit, step = at_start(counter), at_start(bound), _step(body, _tuple_element(condition, counter))
    if start is None or limit is None or not step:
        return None
    return max(0, math.ceil((limit - start) / step))


def _comparison(program: Program, condition: Computation) -> tuple[str, str] | None:
    """(counter, limit) of `counter < limit`, as names in the condition, where the comparison may be fused."""
    root = _root(condition)
    if root is not None and root.opcode == "fusion":
        inside = program.computations.get(root.called("calls") or "", {})
        compare = _root(inside)
        if compare is None or any(inside[name].opcode != "parameter" for name in compare.operands):
            return None
        # The fusion's operands stand for the parameters that it compares.
        names = tuple(root.operands[int(inside[name].arguments)] for name in compare.operands)
        root = replace(compare, operands=names)
    if root is None or root.opcode != "compare":
        return None
    left, right = root.operands
    if "direction=GT" in root.attributes:
        return right, left
    return (left, right) if "direction=LT" in root.attributes else None


def _root(computation: Computation) -> Instruction | None:
    return next((instruction for instruction in computation.values() if instruction.is_root), None)


def _source(computation: Computation, name: str) -> Instruction | None:
    """The instruction whose value `name` has, seen through copies and conversions."""
    instruction = computation.get(name)
    while instruction is not None and instruction.opcode in _TRANSPARENT and instruction.operands:
        instruction = computation.get(instruction.operands[0])
    return instruction


def _constant(computation: Computation, name: str | None) -> int | None:
    instruction = _source(computation, name) if name is not None else None
    if instruction is None or instruction.opcode != "constant" or not re.fullmatch(r"-?\d+", instruction.arguments):
        return None
    return int(instruction.arguments)


def _tuple_element(computation: Computation, name: str) -> int | None:
    """Which element of the loop's tuple `name` is; None when it is none."""
    instruction = _source(computation, name)
    if instruction is None or instruction.opcode != "get-tuple-element":
        return None
    index = re.search(r"index=(\d+)", instruction.attributes)
    return int(index[1]) if index else None


def _step(body: Computation, element: int | None) -> int | None:
    """What one turn adds to an element of the loop's tuple."""
    root = _root(body)
    if element is None or root is None or root.opcode != "tuple":
        return None
    update = _source(body, root.operands[element])
    if update is None or update.opcode != "add":
        return None
    return next((value for name in update.operands if (value := _constant(body, name)) is not None), None)


def _operand_shapes(instruction: Instruction, computation: Computation) -> list[list[tuple[str, tuple[int, ...]]]]:
    return [array_shapes(computation[name].result) if name in computation else [] for name in instruction.operands]


def matmul_flops(instruction: Instruction, computation: Computation) -> int:
    """2 FLOPs a multiply-add of a `dot`, a `convolution` (what a TPU makes of it) or a cuBLAS call; else 0."""
    is_cublas = instruction.opcode == "custom-call" and '"__cublas$' in instruction.attributes
    if instruction.opcode not in ("dot", "convolution") and not is_cublas:
        return 0
    result = array_shapes(instruction.result)[0][1]
    operands = [shapes[0][1] for shapes in _operand_shapes(instruction, computation) if shapes]
    if instruction.opcode == "convolution":
        return _convolution_flops(instruction.attributes, operands[0], operands[1], result)
    contracting = re.search(r'lhs_contracting_dim\w*"?[=:][\[{]([\d,"]*)[\]}]', instruction.attributes)
    dims = [int(dim) for dim in re.findall(r"\d+", contracting[1])] if contracting else []
    return 2 * math.prod(result) * math.prod(operands[0][dim] for dim in dims)


def _convolution_flops(attributes: str, image: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]) -> int:
    """2 × batch × output features × input features of a kernel × pairs of (output, kernel place) on real input."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    assert labels is not None
    image_dims, kernel_dims, out_dims = labels.groups()
    flops = 2 * out[out_dims.index("b")] * out[out_dims.index("f")] * kernel[kernel_dims.index("i")]
    for axis in range(sum(label.isdigit() for label in out_dims)):
        window = {
            key: _window(attributes, key, axis, default)
            for key, default in (("stride", "1"), ("pad", "0_0"), ("lhs_dilate", "1"), ("rhs_dilate", "1"))
        }
        stride, lhs_dilate, rhs_dilate = (int(window[key]) for key in ("stride", "lhs_dilate", "rhs_dilate"))
        low = int(window["pad"].split("_")[0])
        length = image[image_dims.index(str(axis))]
        outs, taps = out[out_dims.index(str(axis))], kernel[kernel_dims.index(str(axis))]
        places = (i * stride - low + j * rhs_dilate for i in range(outs) for j in range(taps))
        flops *= sum(place % lhs_dilate == 0 and 0 <= place // lhs_dilate < length for place in places)
    return flops


def _window(attributes: str, key: str, axis: int, default: str) -> str:
    window = re.search(r"window=\{([^}]*)\}", attributes)
    match = re.search(rf"\b{key}=(\S+)", window[1]) if window else None
    return match[1].split("x")[axis] if match else default


def _collective_kind(instruction: Instruction, computation: str) -> str | None:
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
        return None
    # libtpu writes a reduce-scatter as a fusion of this name around an all-reduce and a slice.
    return "reduce-scatter" if kind == "all-reduce" and "reduce-scatter" in computation else kind


def _continues_collective(computation: str, instructions: Computation) -> bool:
    """Whether a collective in this computation was begun in another.

    libtpu prints one that runs beside other work three times or more: where it begins, in each fusion that it is
    spread over, and where it ends. Its channel does not tell it from others: those of a shard_map share one.
    """
    return computation.startswith("async_collective_fusion") or any(
        "AsyncCollectiveDone" in instruction.attributes for instruction in instructions.values()
    )


def wire_bytes(kind: str, instruction: Instruction, computation: Computation) -> int:
    """Bytes that one chip sends round a ring of g chips, from the n bytes of its operands.

    All-gather (g-1)·n, reduce-scatter and all-to-all (g-1)/g·n, all-reduce 2·(g-1)/g·n (Thakur et al. 2005), a
    permutation n.
    """
    shapes = [shape for operand in _operand_shapes(instruction, computation) for shape in operand]
    size = _total(shapes)
    group = group_size(instruction.attributes)
    if kind == "all-gather":
        return (group - 1) * size
    if kind in ("reduce-scatter", "all-to-all"):
        return size * (group - 1) // group
    return 2 * size * (group - 1) // group if kind == "all-reduce" else size


def dcn_bytes(instruction: Instruction, computation: Computation) -> int:
    """Bytes that one chip sends to other slices in a sum over s slices, 2·(s-1)/s·n; else 0.

    libtpu hands such sums to the host: a `send` names the slices as a range or a list, e.g. {1,2}x{0:15}.
    """
    if instruction.opcode != "send" or '_xla_megascale_transfer_type="ALL_REDUCE"' not in instruction.attributes:
        return 0
    target = re.search(r'_xla_megascale_target="\{([^}]*)\}', instruction.attributes)
    slices = sum(map(_count_of_range, target[1].split(","))) if target else 1
    shapes = _operand_shapes(instruction, computation)[0] or array_shapes(instruction.result)[:1]
    return 2 * _total(shapes) * (slices - 1) // slices


def _count_of_range(text: str) -> int:
    first, _, last = text.partition(":")
    return int(last or first) - int(first) + 1


def host_bytes(instruction: Instruction, computation: Computation) -> int:
    """Bytes that a copy, or a slice of an array in either memory, moves between the chip and the host; else 0."""
    opcode = instruction.opcode.removesuffix("-start")
    if opcode not in ("copy", "dynamic-slice", "dynamic-update-slice") or not instruction.operands:
        return 0

    def on_host(name: str) -> bool:
        return name in computation and _HOST_MEMORY in computation[name].result

    operand, *others = instruction.operands
    shapes = _operand_shapes(instruction, computation)
    if opcode == "copy":
        # A copy that runs beside other work has source and destination in its result, the destination first.
        destination = instruction.result.lstrip("(").split("}")[0]
        return _total(shapes[0]) if on_host(operand) != (_HOST_MEMORY in destination) else 0
    if not on_host(operand):
        return 0
    if opcode == "dynamic-update-slice":
        return 0 if on_host(others[0]) else _total(shapes[1])
    sizes = re.search(r"dynamic_slice_sizes=\{([\d,]+)\}", instruction.attributes)
    assert sizes is not None
    return _total([(shapes[0][0][0], tuple(map(int, sizes[1].split(","))))])


def _total(shapes: Sequence[tuple[str, tuple[int, ...]]]) -> int:
    return sum(_BYTES[dtype] * math.prod(dims) for dtype, dims in shapes)


def group_size(attributes: str) -> int:
    """Chips of one replica group, in each of the three ways that HLO writes them; 1 where it writes none."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    if tiled := re.search(r"replica_groups=\[(\d+),(\d+)\]", attributes):
        return int(tiled[2])
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return len(listed[1].split(","))
    return 1


def _count_kernel(instruction: Instruction, runs: int, counts: ProgramCounts) -> None:
    """Pallas and cuDNN kernels, whose inside is no HLO."""
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    if target is None or not (target[1] == "tpu_custom_call" or target[1].startswith("__cudnn$")):
        return
    name = re.sub(r"[.\d]+$", "", instruction.name)
    counts.kernels[name] = counts.kernels.get(name, 0) + runs
    if declared := re.search(r'cost_estimate"?:\s*\{[^}]*?flops"?:\s*"?(\d+)', instruction.attributes):
        counts.kernel_flops += runs * int(declared[1])
