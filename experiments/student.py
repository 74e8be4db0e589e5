"""The student before its first step, as config.init says it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from demiurgic_jax.checkpoints.checkpoint import open_card, open_model
from demiurgic_jax.data.tokenizer import Tokenizer
from demiurgic_jax.errors import UserError
from demiurgic_jax.interop.importance import Importance, measure_importance
from demiurgic_jax.interop.imported import ImportedModel
from demiurgic_jax.interop.pruning import evenly_spaced, keep_channels, keep_heads, keep_layers, most_important
from demiurgic_jax.interop.vocabulary_trimming import trim_vocabulary
from demiurgic_jax.model.config import ModelConfig, named_config
from demiurgic_jax.model.decoder import Decoder, init_params
from experiments.progress import StageProgress
from experiments.stages.cache import cache_folder
from experiments.stages.shards import shard_set
from experiments.stages.stage import Run
from experiments.teacher import begins_as, initial_teacher

LAYER_CHOICES = ("even", "importance")
CALIBRATION_ROW = 256


def initial_model(run: Run, progress: StageProgress, tokenizer: Tokenizer) -> tuple[ModelConfig, Callable[[], Any]]:
    """Its shape, and a function that makes its parameters."""
    init, kind = run.config.init, begins_as(run)
    if kind == "teacher":
        config, params = _pruned(run, progress, initial_teacher(run, cache_folder(), progress), tokenizer)
        return config, lambda: params
    if kind == "checkpoint":
        opened = open_model(init.checkpoint)
        return opened.config, lambda: opened.params
    named = named_config(init.size)
    config = replace(
        named,
        vocab_size=rows_for(tokenizer),
        max_context=max(named.max_context, run.config.train.context),
    )
    return config, lambda: init_params(Decoder(config), jax.random.key(run.config.train.seed))


def origin(run: Run, progress: StageProgress) -> dict[str, Any]:
    """What a checkpoint's card says of the weights that training began with; exports carry the licence on."""
    kind = begins_as(run)
    if kind == "teacher":
        teacher = initial_teacher(run, cache_folder(), progress)
        return {"init": kind, "base_model": Path(teacher.source).name, "licence": teacher.licence}
    if kind == "checkpoint":
        provenance = open_card(run.config.init.checkpoint).provenance
        base = provenance.get("base_model") or provenance.get("imported_from")
        return {"init": kind, "base_model": base, "licence": provenance.get("licence")}
    return {"init": kind}


def rows_for(tokenizer: Tokenizer) -> int:
    """Rounded up so that a vocabulary of any size divides over a mesh."""
    return math.ceil(tokenizer.vocab_size / 128) * 128


def _pruned(run: Run, progress: StageProgress, teacher: ImportedModel, tokenizer: Tokenizer) -> tuple[ModelConfig, Any]:
    """The teacher's layers, heads and channels that are kept, with rows for the student's tokenizer."""
    init, config, params = run.config.init, teacher.config, teacher.params
    if init.layer_choice not in LAYER_CHOICES:
        raise UserError(
            f"config.init.layer_choice={init.layer_choice!r} is unknown: choose {' or '.join(LAYER_CHOICES)}"
        )
    layers = init.layers or config.num_layers
    if not init.keep and not 1 <= layers <= config.num_layers:
        raise UserError(
            f"config.init.layers={init.layers}: the teacher has {config.num_layers} layers to keep from "
            "(0: all of them)"
        )
    importance = None
    if init.heads or init.mlp_dim or (init.layer_choice == "importance" and not init.keep):
        progress.doing(f"measuring what matters on {init.calibration_tokens:,} tokens")
        importance = _measured(run, teacher, tokenizer)
    if importance is not None and init.heads:
        config, params = keep_heads(params, config, importance.heads, init.heads)
    if importance is not None and init.mlp_dim:
        config, params = keep_channels(params, config, importance.channels, init.mlp_dim)
    if init.keep:
        kept = list(init.keep)
    elif init.layer_choice == "importance" and importance is not None:
        kept = most_important(importance.layers, layers)
    else:
        kept = evenly_spaced(config.num_layers, layers)
    config, params = keep_layers(params, config, kept)
    if tokenizer.fingerprint != teacher.tokenizer.fingerprint:
        config, params = trim_vocabulary(params, config, teacher.tokenizer, tokenizer, rows_for(tokenizer))
    return config, params


def _measured(run: Run, teacher: ImportedModel, tokenizer: Tokenizer) -> Importance:
    """On the first documents of the training set, as the teacher reads them."""
    shards, wanted = shard_set(run, "train"), run.config.init.calibration_tokens
    tokens: list[int] = []
    for number in range(len(shards)):
        if len(tokens) >= wanted:
            break
        ids = shards.read(number).tokens
        same = tokenizer.fingerprint == teacher.tokenizer.fingerprint
        tokens += ids.tolist() if same else teacher.tokenizer.encode(tokenizer.decode(ids.tolist(), skip_special=True))
    row = min(CALIBRATION_ROW, len(tokens))
    rows = min(wanted, len(tokens)) // row if row else 0
    if not rows:
        raise UserError(
            f"config.init.calibration_tokens={wanted} leaves no row of {CALIBRATION_ROW} tokens to measure importance "
            "on: raise it, or make more documents"
        )
    return measure_importance(teacher.params, teacher.config, np.array(tokens[: rows * row]).reshape(rows, row))
