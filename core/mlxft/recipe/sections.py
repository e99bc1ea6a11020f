"""The parameters that a recipe holds in sections of their own."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from mlxft.recipe.declaration import Declared, Effect, Reduction

ScheduleName = Literal[
    "constant", "cosine_decay", "linear_schedule", "exponential_decay", "step_decay"
]


class LoraParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of the low-rank update."""

    rank: Annotated[
        int,
        Declared(
            group="adapter",
            help="Width of the low-rank update; 8 to 32 suits most datasets.",
            effect=Effect(
                memory="adapter, gradients and optimizer state double with it",
                speed="hardly any",
                quality="more capacity; a high rank overfits a small dataset",
            ),
            step="double",
            minimum=1,
            maximum=1024,
            mlx_lm="config",
            resume="fixed",
            reduction=Reduction(order=6, smallest=4),
        ),
    ] = 8
    scale: Annotated[
        float,
        Declared(
            group="adapter",
            help="Factor on the low-rank update: alpha / rank of other tools; with use_rslora "
            "their alpha.",
            effect=Effect(
                quality="learns faster, less stably; halve the learning rate as you double it"
            ),
            step="one",
            minimum=0,
            maximum=1000,
            mlx_lm="config",
            resume="fixed",
        ),
    ] = 20.0
    use_rslora: Annotated[
        bool,
        Declared(
            group="adapter",
            help="Divide scale by the root of the rank (rank-stabilized LoRA), so that updates "
            "keep their size at any rank; adapter_config.json has the quotient, for mlx-lm.",
            effect=Effect(
                quality="a high rank learns as stably as a low one; choose another scale: 20 at "
                "rank 8 becomes 7.1",
            ),
            mlx_lm="config",
            resume="fixed",
        ),
    ] = False
    dropout: Annotated[
        float,
        Declared(
            group="adapter",
            help="Share of the adapter's inputs dropped at random in training.",
            effect=Effect(
                memory="one mask per adapted layer",
                speed="slightly slower",
                quality="0.05 to 0.1 helps small datasets generalize",
            ),
            step="tenth",
            minimum=0,
            maximum=0.95,
            mlx_lm="config",
        ),
    ] = 0.0
    keys: Annotated[
        tuple[str, ...] | None,
        Declared(
            group="adapter",
            help="Which linear layers of a block get an adapter, as names like self_attn.q_proj; "
            "empty means all.",
            effect=Effect(
                memory="fewer layers make a smaller adapter",
                speed="fewer layers are slightly faster",
                quality="all layers learn most; q_proj and v_proj are the classic minimum",
            ),
            mlx_lm="config",
            resume="fixed",
        ),
    ] = None

    @property
    def factor(self) -> float:
        """What the product of the two matrices is multiplied by.

        Rank-stabilized it is alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski 2023).
        """
        return self.scale / math.sqrt(self.rank) if self.use_rslora else self.scale


class LossParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The constants of losses that train a preference, under TRL's names."""

    beta: Annotated[
        float,
        Declared(
            group="loss",
            help="How closely a preference is followed: for dpo, ipo and kto 0.01 to 0.5, where a "
            "low value moves further from the model before training; orpo's weight of the "
            "preference, 0.1; for simpo 2 to 10.",
            effect=Effect(
                quality="dpo, ipo, kto: high stays close to the reference; orpo, simpo: high "
                "weighs the preference more"
            ),
            losses=("dpo", "ipo", "orpo", "simpo", "kto"),
            step="one_two_five",
            minimum=0.0001,
            maximum=100,
            finest=0.001,
            resume="fixed",
            kept_by_presets=True,
        ),
    ] = 0.1
    label_smoothing: Annotated[
        float,
        Declared(
            group="loss",
            help="dpo and simpo: the share of pairs that may be the wrong way round.",
            effect=Effect(quality="0.05 to 0.2 keeps noisy preferences from being overlearned"),
            losses=("dpo", "simpo"),
            step="tenth",
            minimum=0,
            maximum=0.45,
            resume="fixed",
            kept_by_presets=True,
        ),
    ] = 0.0
    simpo_gamma: Annotated[
        float,
        Declared(
            group="loss",
            help="simpo: the margin by which the reward of a chosen answer should exceed that of "
            "the rejected one; about half of beta.",
            effect=Effect(quality="larger separates answers further, too large garbles them"),
            losses=("simpo",),
            step="tenth",
            minimum=0,
            maximum=100,
            resume="fixed",
            kept_by_presets=True,
        ),
    ] = 0.5
    desirable_weight: Annotated[
        float,
        Declared(
            group="loss",
            help="kto: what a good answer counts for.",
            effect=Effect(quality="raise it where good answers are fewer than bad ones"),
            losses=("kto",),
            step="tenth",
            minimum=0,
            maximum=1000,
            resume="fixed",
            kept_by_presets=True,
        ),
    ] = 1.0
    undesirable_weight: Annotated[
        float,
        Declared(
            group="loss",
            help="kto: what a bad answer counts for.",
            effect=Effect(quality="raise it where bad answers are fewer than good ones"),
            losses=("kto",),
            step="tenth",
            minimum=0,
            maximum=1000,
            resume="fixed",
            kept_by_presets=True,
        ),
    ] = 1.0


class LrSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the learning rate changes over the run, counted in optimizer updates."""

    name: Annotated[
        ScheduleName,
        Declared(
            group="schedule",
            help="Shape of the learning rate over the run; cosine_decay is a safe choice.",
            effect=Effect(quality="decaying rates end more stably than a constant one"),
            mlx_lm="config",
            resume="rate",
        ),
    ] = "constant"
    arguments: Annotated[
        tuple[float, ...],
        Declared(
            group="schedule",
            help="Arguments of mlx's schedule, the first being the initial rate; empty means from "
            "learning_rate down over the whole run.",
            mlx_lm="config",
            resume="rate",
        ),
    ] = ()
    warmup: Annotated[
        int,
        Declared(
            group="schedule",
            help="Updates over which the learning rate rises to its initial value.",
            effect=Effect(quality="steadier first updates; a tenth of the run is plenty"),
            step="ten",
            minimum=0,
            maximum=1_000_000,
            unit="updates",
            mlx_lm="config",
            resume="rate",
        ),
    ] = 0
    warmup_init: Annotated[
        float,
        Declared(
            group="schedule",
            help="Learning rate at the start of the warmup; at 0 the first update changes nothing.",
            step="one_two_five",
            minimum=0,
            maximum=1,
            mlx_lm="config",
            resume="rate",
        ),
    ] = 0.0
