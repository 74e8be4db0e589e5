"""How much of real code is cut: files, definitions, those with a fault, megabytes a second.

    python -m tools.benchmarks.cutting go=/usr/share/go-1.19/src cpp=/usr/include/c++

Licences do not matter here; at most 400 files of each folder's language are read, drawn by chance.
"""

import argparse
import random
import time
from itertools import chain

from rich.console import Console
from rich.table import Table

from demiurgic_jax.curation.code import definitions
from demiurgic_jax.curation.languages import language_named
from demiurgic_jax.curation.sources import read_folder
from demiurgic_jax.curation.tree_definitions import count_definitions
from demiurgic_jax.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="LANGUAGE=FOLDER[,FOLDER]")
    parser.add_argument("--files", type=int, default=400, help="of each language at most (default: 400)")
    arguments = parser.parse_args()
    table = Table("language", "files", "definitions", "with a fault", "cut", "MB/s")
    for given in arguments.folders:
        name, _, folders = given.partition("=")
        try:
            table.add_row(name, *measured(name, folders.split(","), arguments.files))
        except UserError as error:
            parser.error(str(error))
    Console().print(table)


def measured(name: str, folders: list[str], most: int) -> list[str]:
    """The cells of one language's row. Raises UserError for what is no language or no folder."""
    if language_named(name).grammars == ():
        raise UserError("Python is read by its own compiler, which is right by definition: name another language")
    files = list(chain.from_iterable(read_folder(folder, languages=[name]) for folder in folders))
    random.Random(0).shuffle(files)
    files = files[:most]
    started = time.perf_counter()
    cut = sum(len(definitions(file.text, name)) for file in files)
    seconds = time.perf_counter() - started
    counted = [count_definitions(file.text, language_named(name)) for file in files]
    total, faulty = sum(found for found, _ in counted), sum(faults for _, faults in counted)
    speed = sum(len(file.text) for file in files) / 1e6 / seconds
    return [f"{len(files):,}", f"{total:,}", f"{faulty / max(total, 1):.2%}", f"{cut:,}", f"{speed:.2f}"]


if __name__ == "__main__":
    main()
