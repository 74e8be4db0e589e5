"""A tokenizer as one item of an Orbax checkpoint: its files, as they are, in a folder."""

from dataclasses import dataclass
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from demiurgic_jax.data.tokenizer import Tokenizer, tokenizer_from_files


class TokenizerHandler(ocp.CheckpointHandler):
    """Writes `Tokenizer.files()`, once for all processes, and builds the tokenizer again from them."""

    def save(self, directory: epath.Path, args: "TokenizerSave") -> None:
        if jax.process_index() > 0:
            return
        for name, content in args.tokenizer.files().items():
            (directory / name).write_bytes(content)

    def restore(self, directory: epath.Path, args: Any = None) -> Tokenizer:
        # On file systems without an atomic rename Orbax leaves its own marker among the files.
        files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "commit_success.txt"}
        return tokenizer_from_files(files, str(directory))


@ocp.args.register_with_handler(TokenizerHandler, for_save=True)
@dataclass
class TokenizerSave(ocp.args.CheckpointArgs):
    tokenizer: Tokenizer


@ocp.args.register_with_handler(TokenizerHandler, for_restore=True)
@dataclass
class TokenizerRestore(ocp.args.CheckpointArgs):
    pass
