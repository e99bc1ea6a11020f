"""A question put to a model and what came back, as every room passes them on."""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Sampling(msgspec.Struct, frozen=True):
    """How the next token is drawn; temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()
    """Texts that end the answer and are no part of it."""


class Question(msgspec.Struct, frozen=True):
    """A conversation to be continued by the model, with its adapter or without."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    use_adapter: bool = True


class Answer(msgspec.Struct, frozen=True):
    """A finished generation and what it cost; speeds are tokens a second."""

    text: str
    finish_reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    generated_tokens: int
    prompt_speed: float
    generation_speed: float
    seconds: float
    reused_tokens: int = 0
    """Tokens of the prompt that were still known from the answer before."""
    first_token_seconds: float = 0.0
    """From the question to the first token."""
    context_length: int | None = None
    """How many tokens the model takes in all."""

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and answer take up together."""
        return self.prompt_tokens + self.generated_tokens
