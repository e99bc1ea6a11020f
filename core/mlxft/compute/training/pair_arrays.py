"""A batch of pairs, or of labelled answers, as arrays."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx

from mlxft.compute.training.place import Place


class PairArrays(NamedTuple):
    """A batch as losses of preferences take it.

    Answers are numbered: of pairs first all chosen ones, then all rejected ones in the same order;
    labelled ones one after the other. Some of the last are padding where rows are packed.
    """

    tokens: mx.array
    """(rows, width), padded with 0 at the end."""
    positions: mx.array
    """(n,): indices into the rows × (width − 1) inputs whose next token is trained; padded with 0
    to one of few sizes."""
    target_count: mx.array
    """(): how many tokens are trained."""
    answers: mx.array
    """(n,): the answer that each position's token belongs to."""
    answer_weights: mx.array
    """(n,): 1 for an answer's tokens, 0 for padding and for tokens that only ORPO's text trains."""
    text_weights: mx.array
    """(n,): 1 for what ORPO trains as text: the chosen answer, and its prompt unless that is
    masked."""
    reference: mx.array
    """(answers,): the log-probability of each answer before training; 0 without a reference."""
    real: mx.array
    """(pairs,) or (labelled answers,): 1, and 0 for padding."""
    labels: mx.array
    """Of labelled answers 1 for a good and 0 for a bad one; of pairs it is not used."""
    kl: mx.array
    """(): KTO's estimate of the KL divergence from the reference."""
    segments: mx.array | None = None
    """(rows, width) of packed rows: each token's answer, from 1; 0 for padding."""
    record_lengths: mx.array | None = None
    """(rows, width): the tokens of each token's conversation, 0 for padding; None if not known."""
    mismatched: PairArrays | None = None
    """Labelled answers' prompts with other records' answers, until `kl` is estimated from them."""
    all_examples: mx.array | None = None
    """(): the pairs or labelled answers of the whole batch, if these are one rank's part of it."""
    all_text: mx.array | None = None
    """(): the sum of the whole batch's `text_weights`, likewise."""
    place: Place | None = None
    """Where the rows are in their batch, likewise."""

    @property
    def targets(self) -> mx.array:
        """(n,): the token to predict at each position."""
        return self.tokens[:, 1:].reshape(-1)[self.positions]

    @property
    def examples(self) -> mx.array:
        """(): the number of pairs or labelled answers."""
        return self.real.sum()

    @property
    def total_weight(self) -> mx.array:
        """(): what the batch counts for among others: its loss is a mean over its pairs."""
        return self.examples if self.all_examples is None else self.all_examples

    @property
    def total_text(self) -> mx.array:
        """(): what the batch's text counts for."""
        return self.text_weights.sum() if self.all_text is None else self.all_text

    @property
    def lengths(self) -> mx.array:
        """(answers,): tokens of each answer."""
        return self.summed(mx.ones(self.answers.shape, mx.float32))

    def with_estimate(self, logps: mx.array) -> PairArrays:
        """The batch with KTO's estimate, from the mismatched answers' log-probabilities.

        Their mean difference from the reference, but at least 0, as in TRL.
        """
        assert self.mismatched is not None
        ratios = (logps - self.mismatched.reference) * self.real
        return self._replace(kl=mx.maximum(ratios.sum() / self.examples, 0), mismatched=None)

    def summed(self, values: mx.array) -> mx.array:
        """(answers,): the sums of positions' values over each answer's tokens.

        Not by adding into indices, whose order on a GPU varies, so that a resumed run would differ;
        nor as a matrix product, which a GPU computes with fewer digits.
        """
        every = mx.arange(self.reference.shape[0])[:, None]
        belongs = (every == self.answers[None]).astype(mx.float32)
        return (belongs * (self.answer_weights * values.astype(mx.float32))).sum(axis=-1)
