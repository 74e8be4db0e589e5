"""The tasks by name."""

from demiurgic_jax.distillation.tasks.complete import Complete
from demiurgic_jax.distillation.tasks.explain import Explain
from demiurgic_jax.distillation.tasks.fix import Fix
from demiurgic_jax.distillation.tasks.generate import Generate
from demiurgic_jax.distillation.tasks.refactor import Refactor
from demiurgic_jax.distillation.tasks.task import Task
from demiurgic_jax.distillation.tasks.translate import Translate
from demiurgic_jax.errors import UserError

TASKS: dict[str, Task] = {
    task.name: task for task in (Complete(), Generate(), Explain(), Fix(), Refactor(), Translate())
}


def task_named(name: str) -> Task:
    """Raises UserError listing the known tasks."""
    if name not in TASKS:
        raise UserError(f"unknown task {name!r}: choose among {', '.join(TASKS)}")
    return TASKS[name]
