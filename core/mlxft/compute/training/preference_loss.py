"""Losses that train a preference: DPO, IPO, ORPO, SimPO and KTO.

All are functions of the answers' log-probabilities, so the model computes the cross entropy of the
answers' tokens as it does for any other batch, in chunks where that is allowed. Formulas, constants
and signs are TRL's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

import mlx.core as mx
import numpy as np

from mlxft.compute.training import numpy_loss
from mlxft.compute.training.chunked import token_losses
from mlxft.compute.training.loss import Loss
from mlxft.compute.training.model_parts import cache_argument
from mlxft.compute.training.pair_arrays import PairArrays
from mlxft.recipe import LossParameters, TrainingLoss
from mlxft.runs.events import Preference

_ON_CPU: Final = mx.default_device() == mx.Device(mx.cpu)

_BY_LENGTH: Final = ("ipo", "orpo", "simpo")
"""Losses of mean log-probabilities per token; the others take sums."""


N = TypeVar("N")


class Figures(NamedTuple, Generic[N]):
    """Sums over a batch's answers, and how many there are; numbers or arrays."""

    examples: N
    chosen: N
    rejected: N
    right: N
    """Pairs whose chosen answer has the higher reward; half for each with equal ones."""
    chosen_reward: N
    rejected_reward: N
    chosen_logp: N
    rejected_logp: N
    kl: N
    """The batch's estimate; 0 for all but KTO."""


@dataclass(frozen=True, kw_only=True)
class PreferenceLoss:
    """The mean loss of a batch's pairs or labelled answers, with `Figures` as one array.

    `way` says how the model's losses are computed: in chunks or at once, with caches or without.
    """

    way: Loss
    method: TrainingLoss
    constants: LossParameters

    def __call__(self, model: Any, batch: PairArrays) -> tuple[mx.array, mx.array]:
        return self.objective(self._token_losses(model, batch), batch)

    def with_gradient(
        self,
        place: Callable[[Any], Any],
        weights: Any,
        batch: PairArrays,
        streams: Sequence[mx.Stream] = (),
    ) -> tuple[tuple[mx.array, mx.array], Any]:
        """The loss, and the gradient by these weights, which `place` puts into the model.

        A pair's answers depend on each other, so the rows are not dealt to `streams`.
        """
        if self._is_chunked and _ON_CPU:
            return numpy_loss.objective_and_gradient(
                place,
                weights,
                batch,
                lambda losses: self.objective(losses, batch),
                with_cache=self.way.with_cache,
            )
        return mx.value_and_grad(lambda weights: self(place(weights), batch))(weights)

    def log_probabilities(self, model: Any, batch: PairArrays) -> mx.array:
        """(answers,): the log-probability of each answer, summed over its tokens."""
        return batch.summed(-self._token_losses(model, batch))

    def objective(self, losses: mx.array, batch: PairArrays) -> tuple[mx.array, mx.array]:
        """The batch's loss and figures from its positions' losses, (n,)."""
        logps = batch.summed(-losses)
        if self.method == "kto":
            return self._labelled(logps, batch)
        found = logps
        if self.method in _BY_LENGTH:
            found = (logps - batch.reference) / mx.maximum(batch.lengths, 1)
        elif self.method == "dpo":
            found = logps - batch.reference
        chosen, rejected = mx.split(found, 2)
        total = (self._of_pairs(chosen, rejected) * batch.real).sum() / batch.total_weight
        if self.method == "orpo":
            total = total + (losses * batch.text_weights).sum() / batch.total_text
        # IPO's rewards are those of DPO, which it bounds per token.
        ratios = logps - batch.reference if self.method == "ipo" else found
        return total, self._figures(ratios, logps, batch)

    def _of_pairs(self, chosen: mx.array, rejected: mx.array) -> mx.array:
        """(pairs,): the loss of each pair of (mean) log-probabilities, less the reference's."""
        beta, margins = self.constants.beta, chosen - rejected
        match self.method:
            case "ipo":
                # Equation 17 of Azar et al. 2023, by mean log-probabilities.
                return (margins - 1 / (2 * beta)).square()
            case "orpo":
                # Equations 6 and 7 of Hong et al. 2024: odds are p / (1 - p).
                odds = margins - (_log_of_rest(chosen) - _log_of_rest(rejected))
                return beta * _minus_log_sigmoid(odds)
            case "simpo":
                # Equation 6 of Meng et al. 2024.
                return self._smoothed(beta * margins - self.constants.simpo_gamma)
        # Equation 7 of Rafailov et al. 2023.
        return self._smoothed(beta * margins)

    def _smoothed(self, margins: mx.array) -> mx.array:
        wrong = self.constants.label_smoothing
        loss = (1 - wrong) * _minus_log_sigmoid(margins)
        return loss + wrong * _minus_log_sigmoid(-margins) if wrong else loss

    def _labelled(self, logps: mx.array, batch: PairArrays) -> tuple[mx.array, mx.array]:
        """Equation 7 of Ethayarajh et al. 2024, with the batch's estimate of the KL divergence."""
        constants, ratios = self.constants, logps - batch.reference
        good = batch.labels * batch.real
        bad = (1 - batch.labels) * batch.real
        above = constants.beta * (ratios - batch.kl)
        losses = constants.desirable_weight * good * mx.sigmoid(-above)
        losses = losses + constants.undesirable_weight * bad * mx.sigmoid(above)
        is_right = _is_above(above) * good + _is_above(-above) * bad
        rewards = constants.beta * ratios
        found = Figures(
            examples=batch.examples,
            chosen=good.sum(),
            rejected=bad.sum(),
            right=is_right.sum(),
            chosen_reward=(rewards * good).sum(),
            rejected_reward=(rewards * bad).sum(),
            chosen_logp=(logps * good).sum(),
            rejected_logp=(logps * bad).sum(),
            # Of the parts that ranks have of a batch each counts for its share.
            kl=batch.kl * (batch.examples / batch.total_weight),
        )
        return losses.sum() / batch.total_weight, mx.stack(list(found))

    def _figures(self, ratios: mx.array, logps: mx.array, batch: PairArrays) -> mx.array:
        chosen, rejected = mx.split(self.constants.beta * ratios, 2)
        chosen_logps, rejected_logps = mx.split(logps, 2)
        pairs = batch.examples
        found = Figures(
            examples=pairs,
            chosen=pairs,
            rejected=pairs,
            right=(_is_above(chosen - rejected) * batch.real).sum(),
            chosen_reward=(chosen * batch.real).sum(),
            rejected_reward=(rejected * batch.real).sum(),
            chosen_logp=(chosen_logps * batch.real).sum(),
            rejected_logp=(rejected_logps * batch.real).sum(),
            kl=mx.zeros_like(pairs),
        )
        return mx.stack(list(found))

    @property
    def _is_chunked(self) -> bool:
        """Whether logits are computed in chunks, which take the head as constant."""
        return self.way.chunked and not self.way.trains_head

    def _token_losses(self, model: Any, batch: PairArrays) -> mx.array:
        if self._is_chunked:
            losses_of = numpy_loss.token_losses if _ON_CPU else token_losses
            return losses_of(model, batch, with_cache=self.way.with_cache)
        cache = cache_argument(model, batch, with_cache=self.way.with_cache)
        logits = model(batch.tokens[:, :-1], **cache)
        trained = logits.reshape(-1, logits.shape[-1])[batch.positions]
        return mx.fast.cross_entropy(trained, batch.targets).astype(mx.float32)


def preference_of(batches: Sequence[mx.array], method: TrainingLoss) -> Preference:
    """The figures of one or several batches as events have them: means per answer."""
    found = [Figures(*map(float, np.asarray(each))) for each in batches]
    sums = Figures(*map(math.fsum, zip(*found, strict=True)))

    def mean(total: float, count: float) -> float | None:
        return total / count if count else None

    chosen = mean(sums.chosen_reward, sums.chosen)
    rejected = mean(sums.rejected_reward, sums.rejected)
    return Preference(
        chosen_reward=chosen,
        rejected_reward=rejected,
        margin=None if chosen is None or rejected is None else chosen - rejected,
        accuracy=sums.right / sums.examples,
        chosen_logp=mean(sums.chosen_logp, sums.chosen),
        rejected_logp=mean(sums.rejected_logp, sums.rejected),
        kl=sums.kl / len(found) if method == "kto" else None,
    )


def _minus_log_sigmoid(x: mx.array) -> mx.array:
    return mx.logaddexp(mx.array(0.0, mx.float32), -x)


def _log_of_rest(logps: mx.array) -> mx.array:
    """log(1 − p) of log p, by whichever form is exact near 0 or near 1."""
    logps = mx.minimum(logps, -1e-7)
    near_one = logps > -0.6931
    small = mx.where(near_one, -1.0, logps)
    large = mx.where(near_one, logps, -1.0)
    return mx.where(near_one, mx.log(-mx.expm1(large)), mx.log1p(-mx.exp(small)))


def _is_above(difference: mx.array) -> mx.array:
    """1 for a positive difference, 0 for a negative one, a half for none."""
    return 0.5 * (1 + mx.sign(difference))
