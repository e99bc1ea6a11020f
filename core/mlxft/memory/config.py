"""The fields of a config.json that determine a model's shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mlxft.errors import ModelError

_ALIASES: Final = {
    "hidden_size": ("n_embd", "d_model", "dim", "model_dim", "hidden_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers", "num_transformer_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "num_query_heads"),
    "num_key_value_heads": ("n_kv_heads", "num_kv_heads", "kv_n_heads"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "intermediate_size_mlp"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "ffn_hidden_size"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("moe_topk", "moe_k", "moe_top_k", "num_experts_per_token"),
    "vocab_size": ("num_vocab",),
    "state_size": ("mamba_d_state", "ssm_state_size"),
}
"""Other names of the same field, for families that are not listed."""


class Config:
    """The language model's part of a config.json, checked on access."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self._mapping = mapping

    def number(self, key: str, default: int | None = None) -> int:
        """A count under any of its names, the largest of a list with one per layer.

        Raises `ModelError` if it is missing without a default.
        """
        for name in (key, *_ALIASES.get(key, ())):
            value = self._mapping.get(name)
            if isinstance(value, list):
                value = max((each for each in value if isinstance(each, int)), default=None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        if default is None:
            raise ModelError(
                f"config.json: {key} is missing or not a number, so the memory can't be estimated; "
                "the run itself may still work."
            )
        return default

    def real(self, key: str, default: float) -> float:
        """A float; the default if null or missing."""
        value = self._mapping.get(key)
        return float(value) if isinstance(value, int | float) else default

    def flag(self, key: str, default: bool = False) -> bool:
        """A boolean; the default if null or missing."""
        value = self._mapping.get(key)
        return default if value is None else bool(value)

    def text(self, key: str) -> str:
        """A string; empty if missing."""
        value = self._mapping.get(key)
        return value if isinstance(value, str) else ""

    def names(self, key: str) -> list[str]:
        """A list of strings; empty if missing."""
        value = self._mapping.get(key)
        return value if isinstance(value, list) else []

    def numbers(self, key: str) -> list[int]:
        """A list of counts; empty if missing."""
        value = self._mapping.get(key)
        return value if isinstance(value, list) else []

    @property
    def hidden(self) -> int:
        return self.number("hidden_size")

    @property
    def heads(self) -> int:
        return self.number("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        return self.number("num_key_value_heads", self.heads)

    @property
    def even_head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def head_dim(self) -> int:
        return self.number("head_dim", self.even_head_dim)
