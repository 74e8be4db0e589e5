"""Arrays that are read when it is their turn to be written: so a model goes from one form into another without ever
being whole in memory, and one is read while another is written."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from demiurgic_jax.checkpoints.digest import by_path, digest_on_host
from demiurgic_jax.data.files import give_back_pages


class UnreadArray:
    """An array of `shape` and `dtype` that `read()` gives, once. `CheckpointFolder.save` takes trees of them."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, read: Callable[[], np.ndarray]):
        self.shape, self.dtype = shape, dtype
        self.size = int(np.prod(shape, dtype=np.int64))
        self._read = read
        self._digest: Future[int] = Future()

    def take(self) -> np.ndarray:
        """Reads it, and takes its digest."""
        array = self._read()
        self._digest.set_result(digest_on_host(array))
        return array

    def fail(self, error: BaseException) -> None:
        """Says that it will not be read; whoever waits for its digest gets `error`."""
        if not self._digest.done():
            self._digest.set_exception(error)

    def digest(self) -> int:
        """Its digest (checkpoints/digest.py). Waits until it was taken; raises what kept it from that."""
        return self._digest.result()


def is_unread(tree: Any) -> bool:
    """Whether its leaves are unread: all of them, or none."""
    return any(isinstance(leaf, UnreadArray) for leaf in jax.tree.leaves(tree))


def digests_once_read(tree: Any) -> dict[str, int]:
    """The digests of an unread tree, by path. Waits until all have been taken; raises what kept one from that."""
    return {name: leaf.digest() for name, leaf in by_path(tree).items()}


class HostArrayHandler(ocp.type_handlers.NumpyHandler):
    """Orbax's handler of host arrays. Unread ones it writes one after the other, and the next is read meanwhile."""

    async def serialize(
        self,
        values: Sequence[Any],
        infos: Sequence[ocp.type_handlers.ParamInfo],
        args: Sequence[ocp.type_handlers.SaveArgs] | None = None,
    ) -> Sequence[ocp.future.Future]:
        if not any(isinstance(value, UnreadArray) for value in values):
            return await super().serialize(values, infos, args)
        args = args or [ocp.type_handlers.SaveArgs()] * len(values)
        writing = _write_in_turn(list(zip(values, infos, args, strict=True)))
        return [ocp.future.CommitFutureAwaitingContractedSignals(writing, name="unread arrays")]


async def _write_in_turn(
    parts: Sequence[tuple[UnreadArray, ocp.type_handlers.ParamInfo, ocp.type_handlers.SaveArgs]],
) -> None:
    # In a thread of its own, so it may wait; what is being written has others.
    writer = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)
    written: Sequence[ocp.future.Future] = ()
    try:
        for value, info, arg in parts:
            array = value.take()
            for future in written:
                future.result()
            give_back_pages(Path(info.parent_dir))  # what was written before
            written = await writer.serialize([array], [info], [arg])
        for future in written:
            future.result()
    except BaseException as error:
        for value, _, _ in parts:
            value.fail(error)
        raise


def array_handlers() -> ocp.type_handlers.TypeHandlerRegistry:
    """How the leaves of a tree of arrays are written: on devices, on the host, unread."""
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.get_type_handler(jax.Array))
    )
    registry.add(np.ndarray, HostArrayHandler(), lambda kind: issubclass(kind, np.ndarray | UnreadArray))
    return registry
