"""The steps that the planner's analytic model is fitted to, compiled anew.

    python -m tools.benchmarks.compile_steps            prints rows for demiurgic_jax/planning/calibration.py

Rows whose compiler is not installed are printed as they are. A minute or more each.
"""

import dataclasses
import sys

from demiurgic_jax.planning.ahead_of_time import compile_step, missing_compiler, prepare_environment
from demiurgic_jax.planning.calibration import COMPILED


def main() -> int:
    prepare_environment()
    for row in COMPILED:
        train, model, hardware = row.step()
        if package := missing_compiler(hardware):
            print(f"{row.hardware}: as it was, {package} is not installed", file=sys.stderr)
        else:
            compiled = compile_step(train, model, hardware)
            row = dataclasses.replace(
                row,
                peak_bytes=compiled.peak_bytes,
                matmul_flops=compiled.counts.matmul_flops,
                estimated_cycles=compiled.counts.estimated_cycles,
            )
        values = ", ".join(f"{x:_}" if isinstance(x, int) else repr(x) for x in dataclasses.astuple(row))
        print(f"    CompiledRow({values}),".replace("'", '"'), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
