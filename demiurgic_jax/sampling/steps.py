"""What the engine runs on the device: few programs of fixed shapes, each compiled once, the cache updated in place.

Shape suffixes: N slots, B rows of a step (one slot or all), S tokens of a row, C prompt chunk, I steps, T cache length,
V vocab, E embed.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demiurgic_jax.model.cache import SlotCache, copy_prefix, new_cache
from demiurgic_jax.model.config import ModelConfig
from demiurgic_jax.model.decoding import decoding_axes, decoding_weights, logits, read
from demiurgic_jax.model.host_memory import HugePages
from demiurgic_jax.model.quantized_weight import Int8Matrix
from demiurgic_jax.sampling.decoding import MAX_ALTERNATIVES, Choice, SamplingOptions, Seen, choose
from demiurgic_jax.sharding.rules import parameter_shardings, partition_spec, replicated

# A prompt is read in chunks of these sizes; where one ends is a function of the prompt's length alone.
CHUNKS = (16, 64, 256)
# Tokens that one dispatch writes to a row, at most.
MAX_STEPS = 8
# Guesses that are verified at once.
DRAFT_TOKENS = 7
# Ids that end a row on the device; the host knows all.
STOP_TOKENS = 32


class State(NamedTuple):
    """What stays on the device from step to step, and is donated to each."""

    cache: SlotCache
    seen: Seen


class Judged(NamedTuple):
    """Of each token of a chunk: the log-probability of the one that follows it, and the likeliest."""

    logprobs: Any  # float32 [C]
    top_ids: Any  # int32 [C, MAX_ALTERNATIVES]
    top_logprobs: Any  # float32 [C, MAX_ALTERNATIVES], descending


class Rows(NamedTuple):
    """The rows of a step: all slots, or the one that alone has something to do."""

    slot: Any  # the first
    options: SamplingOptions  # of B rows
    want_logprobs: Any


class DecodingSteps:
    """The programs over one network, and the state of `slots` rows.

    Programs are shared by engines over networks of one shape. Any step that fails takes the state with it: `reset`
    makes an empty one.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Any,
        *,
        slots: int,
        max_context: int,
        compute_dtype: Any,
        int8_weights: bool = False,
        int8_cache: bool = False,
        mesh: Mesh | None = None,
    ) -> None:
        self.config = config
        self.slots = slots
        self.dtype = compute_dtype
        self._max_context = max_context
        self._int8_cache = int8_cache
        self._mesh = mesh
        if mesh is not None:
            parameter_shardings(mesh, config)  # says which axis does not divide
        self._programs = _programs(mesh)
        keep = HugePages().keep if _on_one_cpu(mesh) else None
        self._weights = decoding_weights(config, params, compute_dtype, int8=int8_weights, keep=keep)
        if mesh is not None:
            self._weights = jax.tree.map(
                partial(_put, mesh), decoding_axes(config), self._weights, is_leaf=lambda node: isinstance(node, tuple)
            )
        self._state: State | None = None

    @property
    def state(self) -> State:
        """The present one, an empty one at first."""
        if self._state is None:
            cache = new_cache(self.config, self.slots, self._max_context, self.dtype, int8=self._int8_cache)
            shape = (self.slots, self.config.vocab_size)
            self._state = State(cache, Seen(jnp.zeros(shape, bool), jnp.zeros(shape, jnp.int32)))
            if self._mesh is not None:
                self._state = State(*map(jax.device_put, self._state, _state_shardings(self._mesh)))
        return self._state

    def reset(self) -> None:
        """Forgets the state, which a failed step has left behind donated."""
        self._state = None

    def warm_up(self) -> None:
        """Runs every program once, over rows that are nowhere."""
        self.copy_prefix(0, 0, 0)
        self.begin(0, [0])
        for size in CHUNKS:
            hidden_CE = self.prefill([0] * size, self.nowhere, _greedy(1), final=False)[1]
            self.judge(hidden_CE, [0] * size)
        for count in {1, self.slots}:
            idle = np.full(count, self.nowhere, np.int32)
            zeros, stops = np.zeros(count, np.int32), np.full((count, STOP_TOKENS), -1, np.int32)
            self.decode(zeros, idle, zeros, stops, _greedy(count), 1)
            guesses = np.zeros((count, 1 + DRAFT_TOKENS), np.int32)
            choice = self.verify(guesses, guesses + self.nowhere, _greedy(count))
        jax.block_until_ready(choice)

    @property
    def nowhere(self) -> int:
        """The position of padding and of idle rows."""
        return self.state.cache.length

    def begin(self, slot: int, prompt: Any) -> None:
        """A row with penalties begins in `slot`: its history is the tokens of `prompt`."""
        known = np.zeros(self.config.vocab_size, bool)
        known[np.asarray(prompt)] = True
        self._state = self._programs.begin(self.state, slot, known)

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """The first `length` tokens that slot `source` holds also in slot `target`."""
        self._state = self._programs.copy_prefix(self.state, source, target, length)

    def prefill(self, chunk: Any, start: int, rows: Rows, *, final: bool) -> tuple[Choice, jax.Array]:
        """Reads `chunk`, as many tokens of a prompt as one of CHUNKS has room for, from position `start` on. Returns
        what follows its last token, a choice that counts if it is `final`, and the hidden states [C, E]."""
        size = next(size for size in CHUNKS if size >= len(chunk))
        tokens_1C, positions_1C = np.zeros((1, size), np.int32), np.full((1, size), self.nowhere, np.int32)
        tokens_1C[0, : len(chunk)] = chunk
        positions_1C[0, : len(chunk)] = np.arange(start, start + len(chunk))
        self._state, choice, hidden_CE = self._programs.prefill(
            self.config, self._weights, self.state, rows, tokens_1C, positions_1C, len(chunk) - 1, final
        )
        return choice, hidden_CE

    def judge(self, hidden_CE: jax.Array, targets: Any) -> Judged:
        """What the network thought of `targets`, which follow the first tokens of the chunk of these hidden states."""
        targets_C = np.zeros(len(hidden_CE), np.int32)
        targets_C[: len(targets)] = targets
        judged = self._programs.judge(self.config, self._weights, hidden_CE, targets_C)
        return Judged(*(np.asarray(x)[: len(targets)] for x in judged))

    def decode(self, tokens: Any, positions: Any, remaining: Any, stops: Any, rows: Rows, steps: int) -> Choice:
        """Up to `steps` (of MAX_STEPS) more tokens of every row, [I, B]: from `tokens` int32 [B] at `positions` int32
        [B], `nowhere` in idle rows. A row ends after one of its `stops` int32 [B, STOP_TOKENS] or `remaining` int32
        [B] tokens; tokens are -1 from there on."""
        self._state, choice = self._programs.decode(
            self.config, self._weights, self.state, rows, tokens, positions, remaining, stops, steps
        )
        return choice

    def verify(self, tokens: Any, positions: Any, rows: Rows) -> Choice:
        """What follows each of `tokens` int32 [B, S], a row's newest token and guesses of what comes next, [B, S].
        Rows with penalties must have no guesses."""
        self._state, choice = self._programs.verify(
            self.config, self._weights, self.state, rows, np.asarray(tokens), np.asarray(positions)
        )
        return choice


def _greedy(count: int) -> Rows:
    """Rows from the first slot on, for a trial."""
    zeros = np.zeros(count, np.float32)
    return Rows(
        0,
        SamplingOptions(
            seed=zeros.astype(np.uint32),
            temperature=zeros,
            top_k=zeros.astype(np.int32),
            top_p=zeros + 1,
            min_p=zeros,
            repetition_penalty=zeros + 1,
            frequency_penalty=zeros,
            presence_penalty=zeros,
        ),
        False,
    )


def next_chunk(left: int) -> int:
    """Tokens of the next chunk of a prompt of which `left` are to be read: as many as the smallest program takes that
    does it in two runs, or else the largest."""
    return min(left, next((size for size in CHUNKS if left <= 2 * size), CHUNKS[-1]))


class Programs(NamedTuple):
    """The jitted functions below."""

    begin: Any
    copy_prefix: Any
    prefill: Any
    judge: Any
    decode: Any
    verify: Any


def _put(mesh: Mesh, axes: tuple[str, ...], weight: Any) -> Any:
    """The weight, or each part of an eight-bit one, laid out as the rules say."""
    spec = partition_spec(axes)
    if isinstance(weight, Int8Matrix):
        scales = jax.device_put(weight.scales, NamedSharding(mesh, PartitionSpec(spec[0])))
        return Int8Matrix(jax.device_put(weight.values, NamedSharding(mesh, spec)), scales)
    return jax.device_put(weight, NamedSharding(mesh, spec))


def _state_shardings(mesh: Mesh) -> State:
    """Keys and values by head. Their rows are not spread: a step of one row would gather them."""
    by_head = NamedSharding(mesh, PartitionSpec(None, None, *partition_spec(("kv_heads",))))
    return State(by_head, replicated(mesh))  # type: ignore[arg-type]


def _on_one_cpu(mesh: Mesh | None) -> bool:
    return mesh is None and jax.default_backend() == "cpu"


@lru_cache(maxsize=8)
def _programs(mesh: Mesh | None) -> Programs:
    def jit(function: Any, static: tuple[int, ...], donated: int | None, results: int) -> Any:
        shardings: Any = None
        if mesh is not None:
            others = [replicated(mesh)] * results
            state = [] if donated is None else [_state_shardings(mesh)]
            shardings = (*state, *others) if len(state + others) > 1 else (state + others)[0]
        return jax.jit(
            function,
            static_argnums=static,
            donate_argnums=() if donated is None else donated,
            **({} if mesh is None else {"out_shardings": shardings}),
        )

    # A choice that the program makes for itself stops an accelerator's queue, and so does a mesh's collective in one.
    loop = _on_one_cpu(mesh)
    return Programs(
        begin=jit(_begin, (), 0, 0),
        copy_prefix=jit(_copy_prefix, (), 0, 0),
        prefill=jit(partial(_prefill, loop), (0,), 2, 2),
        judge=jit(_judge, (0,), None, 1),
        decode=jit(partial(_decode, loop), (0,), 2, 1),
        verify=jit(partial(_verify, loop), (0,), 2, 1),
    )


def _begin(state: State, slot: Any, known_V: Any) -> State:
    seen = Seen(jnp.asarray(state.seen.prompt).at[slot].set(known_V), jnp.asarray(state.seen.generated).at[slot].set(0))
    return State(state.cache, seen)


def _copy_prefix(state: State, source: Any, target: Any, length: Any) -> State:
    return State(copy_prefix(state.cache, source, target, length), state.seen)


def _count(seen: Seen, rows_B: jax.Array, tokens_B: jax.Array, counts_B: jax.Array) -> Seen:
    return Seen(seen.prompt, jnp.asarray(seen.generated).at[rows_B, tokens_B].add(counts_B.astype(jnp.int32)))


def _prefill(
    loop: bool,
    config: ModelConfig,
    weights: Any,
    state: State,
    rows: Rows,
    tokens_1C: Any,
    positions_1C: Any,
    last: Any,
    final: Any,
) -> tuple[State, Choice, jax.Array]:
    hidden_1CE, cache = read(config, weights, state.cache, rows.slot, tokens_1C, positions_1C, loop=loop)
    hidden_1E = jax.lax.dynamic_index_in_dim(hidden_1CE, last, axis=1, keepdims=False)
    position_1 = jax.lax.dynamic_index_in_dim(positions_1C, last, axis=1, keepdims=False)
    slot_1 = jnp.asarray(rows.slot)[None]
    logits_1V = logits(config, weights, hidden_1E)
    choice = choose(logits_1V, position_1, rows.options, state.seen, slot_1, jnp.asarray(rows.want_logprobs))
    seen = _count(state.seen, slot_1, jnp.asarray(choice.tokens), jnp.asarray(final)[None])
    return State(cache, seen), choice, hidden_1CE[0]


def _judge(config: ModelConfig, weights: Any, hidden_CE: jax.Array, targets_C: Any) -> Judged:
    def some(parts: tuple[jax.Array, jax.Array]) -> Judged:
        hidden_E, target = parts
        logprobs_V = jax.nn.log_softmax(logits(config, weights, hidden_E))
        top, ids = jax.lax.top_k(logprobs_V, min(MAX_ALTERNATIVES, config.vocab_size))
        return Judged(logprobs_V[target], ids, top)

    # Logits of a whole chunk would be larger than all else here.
    return jax.lax.map(some, (hidden_CE, targets_C), batch_size=CHUNKS[0])


def _decode(
    loop: bool,
    config: ModelConfig,
    weights: Any,
    state: State,
    rows: Rows,
    tokens_B: Any,
    positions_B: Any,
    remaining_B: Any,
    stops_BX: Any,
    steps: Any,
) -> tuple[State, Choice]:
    B = tokens_B.shape[0]
    nowhere = state.cache.length
    rows_B = rows.slot + jnp.arange(B)
    alternatives = min(MAX_ALTERNATIVES, config.vocab_size)
    written = Choice(
        jnp.full((MAX_STEPS, B), -1, jnp.int32),
        jnp.zeros((MAX_STEPS, B)),
        jnp.zeros((MAX_STEPS, B, alternatives), jnp.int32),
        jnp.zeros((MAX_STEPS, B, alternatives)),
    )

    def more(carry: Any) -> jax.Array:
        step, _, _, positions_B, _, _ = carry
        return (step < steps) & jnp.any(positions_B < nowhere)

    def one(carry: Any) -> Any:
        step, state, tokens_B, positions_B, remaining_B, written = carry
        hidden_B1E, cache = read(
            config, weights, state.cache, rows.slot, tokens_B[:, None], positions_B[:, None], loop=loop
        )
        logits_BV = logits(config, weights, hidden_B1E[:, 0])
        choice = choose(logits_BV, positions_B, rows.options, state.seen, rows_B, jnp.asarray(rows.want_logprobs))
        running_B = positions_B < nowhere
        seen = _count(state.seen, rows_B, jnp.asarray(choice.tokens), running_B)
        shown = choice._replace(tokens=jnp.where(running_B, choice.tokens, -1))
        written = jax.tree.map(lambda out, new: out.at[step].set(new), written, shown)
        stopped_B = jnp.any(choice.tokens[:, None] == stops_BX, axis=1) | (remaining_B <= 1)
        positions_B = jnp.where(running_B & ~stopped_B, positions_B + 1, nowhere)
        return step + 1, State(cache, seen), jnp.asarray(choice.tokens), positions_B, remaining_B - 1, written

    start = (jnp.int32(0), state, jnp.asarray(tokens_B), jnp.asarray(positions_B), jnp.asarray(remaining_B), written)
    _, state, _, _, _, written = jax.lax.while_loop(more, one, start)
    return state, written


def _verify(
    loop: bool, config: ModelConfig, weights: Any, state: State, rows: Rows, tokens_BS: Any, positions_BS: Any
) -> tuple[State, Choice]:
    B, S = tokens_BS.shape
    rows_B = rows.slot + jnp.arange(B)
    hidden_BSE, cache = read(config, weights, state.cache, rows.slot, tokens_BS, positions_BS, loop=loop)
    repeated = partial(jnp.repeat, repeats=S, axis=0)
    choice = choose(
        logits(config, weights, hidden_BSE.reshape(B * S, -1)),
        jnp.asarray(positions_BS).reshape(-1),
        jax.tree.map(lambda x: repeated(jnp.asarray(x)), rows.options),
        state.seen,
        repeated(rows_B),
        jnp.asarray(rows.want_logprobs),
    )
    choice = jax.tree.map(lambda x: x.reshape(B, S, *x.shape[1:]), choice)
    running_B = jnp.asarray(positions_BS)[:, 0] < state.cache.length
    return State(cache, _count(state.seen, rows_B, choice.tokens[:, 0], running_B)), choice
