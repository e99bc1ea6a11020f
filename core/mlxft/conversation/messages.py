"""Chat messages, sampling settings and answers, as all packages exchange them."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    """A message of a conversation."""

    role: Role
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is sampled; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are not included in it."""


class Question(msgspec.Struct, frozen=True):
    """A conversation for the model to continue, with its adapter or without."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    use_adapter: bool = True


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A finished answer and its figures; speeds in tokens per second."""

    text: str
    finish_reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    generated_tokens: int
    prompt_speed: float
    generation_speed: float
    seconds: float
    reused_tokens: int = 0
    """Prompt tokens taken from the cache of an earlier answer."""
    first_token_seconds: float = 0.0
    """Time from the question to the first token."""
    context_length: int | None = None
    """The model's context length in tokens."""

    @property
    def context_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt_tokens + self.generated_tokens

    @property
    def fills_context(self) -> bool:
        """Whether prompt and answer take up the model's whole context."""
        return self.context_length is not None and self.context_tokens >= self.context_length
