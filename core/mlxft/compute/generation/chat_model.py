"""A model loaded for chat, with or without saved adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mlxft.compute.generation import answers
from mlxft.compute.generation.answers import GenerationRequest, Listener
from mlxft.compute.generation.prompt_cache import PromptCache
from mlxft.compute.models import loading
from mlxft.compute.models.variants import BASE, Variant, Variants
from mlxft.compute.tokenization import Tokenizer, load_tokenizer, of_adapter, with_template
from mlxft.conversation.messages import Answer, Question
from mlxft.recipe import ChatTemplate


class ChatModel:
    """Holds the weights, and a prompt cache per adapter."""

    def __init__(self, path: Path, trust_remote_code: bool = False) -> None:
        """Loads the tokenizer only. Raises `ModelError`."""
        self.path = path
        self.tokenizer = load_tokenizer(path, trust_remote_code)
        self.trust_remote_code = trust_remote_code
        self._variants: Variants | None = None
        self._caches: dict[Path | None, PromptCache] = {}
        self._chosen: Path | None = None

    def load(self, *adapters: Path | None) -> None:
        """Load the weights and these adapters, unless they are loaded and unchanged.

        An adapter is a run's folder or an adapter file in it; None is the base model. `answer` uses
        the last one. Raises `ModelError`.
        """
        variants = self.variants
        self._chosen = adapters[-1] if adapters else None
        wanted = [each for each in adapters if each is not None]
        variants.forget_all_but(wanted)
        self._caches = {each: self._caches.get(each, PromptCache()) for each in (None, *wanted)}
        for each in wanted:
            if variants.saved(each)[1]:
                self._caches[each].clear()

    @property
    def variants(self) -> Variants:
        """The weights, loaded on first use. Raises `ModelError`."""
        if self._variants is None:
            self._variants = Variants(loading.load(self.path, self.trust_remote_code))
        return self._variants

    def answer(
        self,
        question: Question,
        on_text: Callable[[str], None],
        cancelled: Callable[[], bool],
        *,
        fresh: bool = False,
    ) -> Answer:
        """Answer with the adapter loaded last, or without; `fresh` ignores the prompt cache.

        Raises `ModelError`.
        """
        adapter = self._chosen if question.use_adapter else None
        if fresh:
            self._caches.clear()
        return self.answer_together([(question, adapter, Listener(on_text, cancelled))])[0]

    def answer_together(
        self,
        asked: Sequence[tuple[Question, Path | None, Listener]],
        template: ChatTemplate | None = None,
    ) -> tuple[Answer, ...]:
        """Answer each question with its adapter or the base model, interleaved.

        `template` is the base model's. Raises `ModelError` and `RecipeError`.
        """
        requests = [
            GenerationRequest(
                question,
                self.variant(adapter),
                listener,
                self._cache(adapter),
                self.tokenizer_of(adapter, template),
            )
            for question, adapter, listener in asked
        ]
        return answers.generate_together(self.variants, requests)

    def tokenizer_of(self, adapter: Path | None, template: ChatTemplate | None = None) -> Tokenizer:
        """The tokenizer that writes an adapter's prompts as in its training, or the base model's.

        `template` is the base model's. Raises `ModelError` and `RecipeError`.
        """
        if adapter is not None:
            return of_adapter(self.tokenizer, adapter)
        return with_template(self.tokenizer, template)

    def variant(self, adapter: Path | None) -> Variant:
        """The weights with an adapter, or of the base model. Raises `ModelError`."""
        return self.variants.saved(adapter)[0] if adapter else BASE

    def _cache(self, adapter: Path | None) -> PromptCache:
        return self._caches.setdefault(adapter, PromptCache())
