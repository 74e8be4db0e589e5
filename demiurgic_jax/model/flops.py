"""FLOPs that the network needs for its answer, whatever a program spends: 2 for a multiply-add."""

from demiurgic_jax.model.config import ModelConfig


def attention_flops(model: ModelConfig, rows: int, row_length: int) -> int:
    """Forward FLOPs of one layer's attention: two products of S × S/2 (its causal half)."""
    return 2 * 2 * rows * row_length * (row_length // 2) * model.num_heads * model.head_dim


def training_flops(model: ModelConfig, rows: int, row_length: int) -> int:
    """FLOPs of a step forward and backward on `rows` of `row_length` tokens: 6 per weight of a matrix product and token
    (Kaplan et al. 2020, arXiv:2001.08361; the embedding is a look-up), and attention's causal half three times."""
    return 3 * forward_flops(model, rows, row_length)


def forward_flops(model: ModelConfig, rows: int, row_length: int) -> int:
    """The third of them that the forward pass is."""
    weights = model.num_parameters - (0 if model.tie_embeddings else model.vocab_size * model.embed_dim)
    return 2 * weights * rows * row_length + model.num_layers * attention_flops(model, rows, row_length)
