"""Model cards: what a README.md says of a model, read of others' and written of ours."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.interop.families import Family
from demiurgic_jax.model.config import ModelConfig


@dataclass(frozen=True)
class CardFacts:
    """What is known of a model besides its network. `training` and `scores` are names and figures; `data` counts
    documents or tokens by where they come from; `licences` documents by their licence."""

    name: str
    licence: str | None = None
    base_model: str | None = None
    training: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


def read_licence(folder: Path) -> str | None:
    """The licence that the model card (README.md) in `folder` names in its front matter."""
    card = folder / "README.md"
    lines = card.read_text(errors="replace").splitlines() if card.is_file() else []
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("'\"") or None
    return None


def model_card(config: ModelConfig, family: Family, tokenizer: Tokenizer, facts: CardFacts) -> str:
    """README.md: front matter as Hugging Face reads it, then what the model is, learnt from and scores."""
    front = {
        "license": facts.licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": facts.base_model,
    }
    matter = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items() if value]
    special = tokenizer.special
    abilities = {
        "architecture": f"{family.architecture}, {config.num_parameters / 1e6:,.1f} M parameters",
        "layers, width": f"{config.num_layers} × {config.embed_dim}",
        "context": f"{config.max_context:,} tokens",
        "vocabulary": f"{tokenizer.vocab_size:,} pieces",
        "fill in the middle": "yes" if special.fim_middle is not None else "no",
        "chat template": "yes" if tokenizer.chat_template else "no",
        "licence": facts.licence or "not known",
    }
    parts = [
        "\n".join(["---", *matter, "tags:", "- code", "---"]),
        f"# {facts.name}",
        _table(abilities),
    ]
    for title, rows in (
        ("Training", facts.training),
        ("Data", facts.data),
        ("Licences of the data", {name: f"{count:,} documents" for name, count in facts.licences.items()}),
        ("Scores", {name: f"{value:,.4g}" for name, value in facts.scores.items()}),
    ):
        if rows:
            parts += [f"## {title}", _table(rows)]
    return "\n\n".join(parts) + "\n"


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
