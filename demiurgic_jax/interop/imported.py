"""Opening somebody else's model, whatever form it comes in."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demiurgic_jax.checkpoints.card import Card
from demiurgic_jax.checkpoints.checkpoint import CheckpointFolder
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop import gguf_config, huggingface_config
from demiurgic_jax.interop.families import Family
from demiurgic_jax.interop.folder_tokenizer import read_folder_tokenizer
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.gguf_tokenizer import read_tokenizer
from demiurgic_jax.interop.layout import Form
from demiurgic_jax.interop.model_card import read_licence
from demiurgic_jax.interop.output import finished_folder
from demiurgic_jax.interop.reading import Progress, Shardings, read_parameters, unread_parameters
from demiurgic_jax.interop.safetensors_folder import SafetensorsFolder
from demiurgic_jax.model.config import ModelConfig


@dataclass(frozen=True)
class ImportedModel:
    """A model in our terms: `params` are arrays in the tree of `config`, or unread ones. `family` is its name at
    Hugging Face."""

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer
    source: str
    licence: str | None
    family: str


def import_model(
    path: str | Path,
    *,
    dtype: Any = np.float32,
    shardings: Shardings | None = None,
    max_context: int | None = None,
    progress: Progress | None = None,
) -> ImportedModel:
    """Reads a GGUF file, or a Hugging Face folder with safetensors. UserError for anything else.

    Parameters are host arrays of `dtype` (None: as they are stored), or jax.Arrays that lie as the tree
    `shardings(config)` says; each tensor is read once, and of it no more than this process's devices hold.
    `max_context` shortens the context, which admits models with a sliding window as long as it. `progress` is called
    with the bytes read and in all.
    """
    return _imported(path, partial(read_parameters, shardings=shardings), dtype, max_context, progress)


def open_unread(
    path: str | Path, *, dtype: Any = None, max_context: int | None = None, progress: Progress | None = None
) -> ImportedModel:
    """The same with parameters that are UnreadArrays, for `write_checkpoint`."""
    return _imported(path, unread_parameters, dtype, max_context, progress)


def _imported(
    path: str | Path,
    parameters: Callable[..., Any],
    dtype: Any,
    max_context: int | None,
    progress: Progress | None,
) -> ImportedModel:
    stored, form, family, config = _described(Path(path), max_context)
    tokenizer, licence = _tokenizer_and_licence(stored, config)
    params = parameters(
        config=config,
        stored=stored,
        family=family,
        form=form,
        dtype=dtype,
        unneeded=_unneeded(form, config),
        progress=progress,
    )
    return ImportedModel(config, params, tokenizer, str(path), licence, family.name)


def open_config(path: str | Path, max_context: int | None = None) -> ModelConfig:
    """The shape alone, without a tensor being read."""
    return _described(Path(path), max_context)[3]


def _described(path: Path, max_context: int | None) -> tuple[GgufFile | SafetensorsFolder, Form, Family, ModelConfig]:
    if path.is_file():
        file = GgufFile(path)
        return file, "gguf", *gguf_config.read_config(file, max_context)
    if path.is_dir():
        folder = SafetensorsFolder(path)
        where = path / "config.json"
        described = huggingface_config.read_config(folder.config, where, folder.tensor_names, max_context)
        return folder, "huggingface", *described
    raise UserError(f"model {path} does not exist: give a .gguf file, or a Hugging Face folder with safetensors")


def _tokenizer_and_licence(stored: GgufFile | SafetensorsFolder, config: ModelConfig) -> tuple[Tokenizer, str | None]:
    if isinstance(stored, GgufFile):
        return read_tokenizer(stored), stored.get("general.license", "") or None
    tokenizer = read_folder_tokenizer(stored.path)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{stored.path}: its tokenizer has {tokenizer.vocab_size} ids, "
            f"its config.json vocab_size={config.vocab_size}: they do not belong together"
        )
    return tokenizer, read_licence(stored.path)


def _unneeded(form: Form, config: ModelConfig) -> tuple[str, ...]:
    """Ends of the names of tensors that follow from the config."""
    if form == "gguf":
        return (gguf_config.ROPE_FREQUENCIES,)
    # A tied model may come with a copy; buffers of old releases.
    return "rotary_emb.inv_freq", *(["lm_head.weight"] if config.tie_embeddings else [])


def write_checkpoint(model: ImportedModel, folder: Path) -> None:
    """Makes `folder`, a folder of checkpoints with the model as step 0: whole, or not at all.

    UserError when it exists.
    """
    provenance = {"imported_from": Path(model.source).name, "family": model.family, "licence": model.licence}
    with finished_folder(folder) as temporary, CheckpointFolder(temporary) as checkpoints:
        checkpoints.save(0, model.params, model.tokenizer, Card(model.config, provenance=provenance))
        checkpoints.wait()
