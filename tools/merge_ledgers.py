"""Makes one ledger of those that `experiments.run --shard=i/n` has written, and proves that nothing was paid twice.

    python -m tools.merge_ledgers WORKDIR

The shards' answers come into WORKDIR/ledger.sqlite; the same run without --shard then goes on with all of them. The
shards' own ledgers stay, and merging again, after more of them have been asked, brings what is new. Where two ledgers
hold an answer to the same request, or one sent it after another had the answer, nothing is merged and it says which.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from demiurgic_jax.distillation.merging import merge_ledgers
from demiurgic_jax.errors import UserError
from experiments.workdir import shard_ledgers

USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0 or 2 (the user's mistake)."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.merge_ledgers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the folder of the run")
    options = parser.parse_args(argv)
    try:
        shards = shard_ledgers(options.workdir)
        if not shards:
            raise UserError(f"{options.workdir} holds no ledger-shard-I-of-N.sqlite: run with --shard=I/N first")
        merged = merge_ledgers(options.workdir / "ledger.sqlite", shards)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    print(
        f"{merged.ledgers} ledgers with {merged.requests:,} requests are in {options.workdir / 'ledger.sqlite'}: "
        f"{merged.settled:,} answers, ${merged.dollars:,.4f}; none was asked again after its answer had come"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
