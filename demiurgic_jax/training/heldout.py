"""Held-out evaluation: means over all sets, over each, and over the documents of each language and each task.

Documents of one set, language and task are laid into rows of their own, so that sums over rows are sums over such a
group, and every mean is a sum of groups: each document is computed once, whatever it is counted in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from demiurgic_jax.data.batch import Batch
from demiurgic_jax.data.document import Document, TrainingPart
from demiurgic_jax.data.loader import Loader
from demiurgic_jax.data.shards import ShardSet
from demiurgic_jax.errors import UserError
from demiurgic_jax.sharding.placement import put_batch, row_share
from demiurgic_jax.training.losses import LossSums
from demiurgic_jax.training.metrics import perplexity
from demiurgic_jax.training.step import means

KINDS = ("language", "task")
REPORTED = ("cross_entropy", "kl", "accuracy", "loss_tokens")


class Selection(ShardSet):
    """Some documents of a shard set, numbered anew."""

    def __init__(self, whole: ShardSet, documents: Sequence[int]) -> None:
        self.folder, self.manifest = whole.folder, whole.manifest
        self.lengths = whole.lengths[np.asarray(documents)]
        self._whole, self._documents = whole, documents

    def read(self, document: int) -> Document:
        return self._whole.read(self._documents[document])

    def read_training_part(self, document: int) -> TrainingPart:
        return self._whole.read_training_part(self._documents[document])


@dataclass(frozen=True)
class Group:
    """Rows whose documents count in the means called `names`, e.g. heldout, heldout/language/python."""

    names: tuple[str, ...]
    loader: Loader


def heldout_groups(sets: Mapping[str, ShardSet], **sources: Any) -> list[Group]:
    """The groups of `sets`, by name; `sources` is what a Loader takes besides. Reads every document once.

    UserError for a set that is empty, or called as the means by language and task are.
    """
    groups = []
    for name, shard_set in sets.items():
        if name in KINDS:
            raise UserError(f"a held-out set cannot be called {name!r}: rename its folder")
        members: dict[tuple[str, str], list[int]] = {}
        for number in range(len(shard_set)):
            document = shard_set.read(number)
            members.setdefault((document.language, document.task), []).append(number)
        if not members:
            raise UserError(f"held-out set {shard_set.folder} is empty: raise the held-out fraction")
        own = (f"heldout/{name}",) if len(sets) > 1 else ()
        # Where a teacher tells targets with its answers, a small set may have none.
        given = sources if shard_set.manifest["soft_target_cap"] else sources | {"soft_targets": 0}
        for (language, task), documents in sorted(members.items()):
            names = ("heldout", *own, f"heldout/language/{language}", f"heldout/task/{task}")
            groups.append(Group(names, Loader(Selection(shard_set, documents), batch_size=1, **given)))
    return groups


def evaluate_groups(
    eval_step: Callable[[Any, Batch], LossSums], params: Any, groups: Sequence[Group], batch_size: int, mesh: Mesh
) -> dict[str, float]:
    """Means over every row, each counted once, named `heldout/FIELD`, `heldout/SET/FIELD` (of several sets),
    `heldout/language/NAME/FIELD` and `heldout/task/NAME/FIELD`."""
    totals: dict[str, LossSums] = {}
    index, count = row_share(mesh)
    for group in groups:
        for host_batch in group.loader.all_rows(batch_size, process_index=index, process_count=count):
            # Fetched one by one: on CPUs, programs that overlap on several processes can wait for each other for ever.
            sums = jax.device_get(eval_step(params, put_batch(host_batch, mesh)))
            for name in group.names:
                totals[name] = jax.tree.map(np.add, totals[name], sums) if name in totals else sums
    return {f"{name}/{field}": value for name, total in totals.items() for field, value in _means(total).items()}


def _means(total: LossSums) -> dict[str, float]:
    values = {name: float(value) for name, value in jax.device_get(means(total)).items()}
    return {name: values[name] for name in REPORTED} | {"perplexity": perplexity(values["cross_entropy"])}
