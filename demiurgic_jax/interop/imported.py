"""Opening somebody else's model, whatever form it comes in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demiurgic_jax.data.tokenizer import Tokenizer, load_tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop import llama_gguf, llama_safetensors
from demiurgic_jax.interop.gguf_file import GgufFile
from demiurgic_jax.interop.safetensors_folder import SafetensorsFolder
from demiurgic_jax.model.config import ModelConfig


@dataclass(frozen=True)
class ImportedModel:
    """A model in our terms: `params` are float32 host arrays in the tree of `config`."""

    config: ModelConfig
    params: Any
    tokenizer: Tokenizer
    source: str
    licence: str | None


def import_model(path: str | Path) -> ImportedModel:
    """Reads a GGUF file, or a Hugging Face folder with safetensors. UserError for anything else."""
    path = Path(path)
    if path.is_file():
        return _from_gguf(GgufFile(path))
    if path.is_dir():
        return _from_folder(SafetensorsFolder(path))
    raise UserError(f"model {path} does not exist: give a .gguf file, or a Hugging Face folder with safetensors")


def _from_gguf(file: GgufFile) -> ImportedModel:
    config = llama_gguf.model_config(file)
    tokenizer = llama_gguf.tokenizer(file)
    params = llama_gguf.parameters(file, config)
    return ImportedModel(config, params, tokenizer, str(file.path), file.get("general.license", "") or None)


def _from_folder(folder: SafetensorsFolder) -> ImportedModel:
    config = llama_safetensors.model_config(folder)
    tokenizer = load_tokenizer(folder.path)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"{folder.path}: its tokenizer has {tokenizer.vocab_size} ids, "
            f"its config.json vocab_size={config.vocab_size}: they do not belong together"
        )
    params = llama_safetensors.parameters(folder, config)
    return ImportedModel(config, params, tokenizer, str(folder.path), llama_safetensors.licence(folder))
