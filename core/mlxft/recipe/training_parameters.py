"""The parameters of a recipe that say how it trains: adapter, optimization and memory."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from mlxft.errors import RecipeError
from mlxft.recipe.declaration import Declared, Effect, Reduction
from mlxft.recipe.input_parameters import InputParameters
from mlxft.recipe.sections import LoraParameters, LossParameters, LrSchedule

ALL_ROWS: Final = ("all",)
"""The value of `train_embeddings` for the whole embedding and head."""


def _check_rows(tokens: tuple[str, ...] | None) -> None:
    if tokens and "all" in tokens and tokens != ALL_ROWS:
        raise RecipeError("train_embeddings has all beside tokens; name either.")


Optimizer = Literal["adam", "adamw", "sgd", "muon", "adafactor"]
AccumulationWeight = Literal["tokens", "steps"]
TrainingLoss = Literal["sft", "dpo", "ipo", "orpo", "simpo", "kto"]

PAIRED: Final[tuple[TrainingLoss, ...]] = ("dpo", "ipo", "orpo", "simpo")
"""Losses of a chosen and a rejected answer."""

WITH_REFERENCE: Final[tuple[TrainingLoss, ...]] = ("dpo", "ipo", "kto")
"""Losses that compare with the model before training."""


class TrainingParameters(InputParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adapter, optimization and memory, after model and data."""

    num_layers: Annotated[
        int,
        Declared(
            group="adapter",
            help="How many transformer blocks to train, counted from the last; -1 is all.",
            effect=Effect(
                memory="activations of each trained block",
                speed="a backward pass through each block",
                quality="more capacity; 4 to 16 suit most datasets",
            ),
            step="one",
            minimum=-1,
            maximum=1000,
            unit="layers",
            meanings={"-1": "all layers", "0": "all layers"},
            mlx_lm="flag",
            resume="fixed",
            reduction=Reduction(order=4, smallest=1),
        ),
    ] = 16
    lora_parameters: LoraParameters = LoraParameters()
    train_embeddings: Annotated[
        tuple[str, ...] | None,
        Declared(
            group="adapter",
            help="Train the embedding and the head beside the adapter: only the rows of these "
            "tokens, as <tool_call>, or all; empty means none. mlx-lm can't load it; fuse it with "
            "export.",
            effect=Effect(
                memory="activations of every block; with all also weights, gradients and optimizer "
                "state of the whole vocabulary, in float32",
                speed="a backward pass through every block",
                quality="needed for tokens that the model has never seen; all can forget most",
            ),
            resume="fixed",
            check=_check_rows,
        ),
    ] = None
    loss: Annotated[
        TrainingLoss,
        Declared(
            group="loss",
            help="sft trains answers. The others train a preference: dpo, ipo, orpo and simpo on "
            "pairs of a chosen and a rejected answer, kto on answers labelled good or bad.",
            effect=Effect(
                memory="a pair is two rows; no second model is loaded",
                speed="pairs take two rows each; dpo, ipo and kto compute every row once more "
                "before the first step",
                quality="dpo suits most pairs; ipo overfits less, orpo and simpo need no "
                "reference, kto needs no pairs",
            ),
            resume="fixed",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = "sft"
    loss_parameters: LossParameters = LossParameters()
    optimizer: Annotated[
        Optimizer,
        Declared(
            group="optimization",
            help="How gradients become updates; adam suits most, adamw adds weight decay.",
            effect=Effect(
                memory="adam and adamw two values per trained weight, sgd and muon one, adafactor "
                "least",
                speed="muon is slower",
                quality="adam or adamw unless you know better",
            ),
            mlx_lm="flag",
            resume="fixed",
        ),
    ] = "adam"
    optimizer_config: Annotated[
        dict[str, dict[str, Any]],
        Declared(
            group="optimization",
            help="Extra arguments of mlx's optimizers by name, as adamw: {weight_decay: 0.01}.",
            example="{adamw: {weight_decay: 0.1}}",
            mlx_lm="config",
        ),
    ] = msgspec.field(default_factory=dict)
    learning_rate: Annotated[
        float,
        Declared(
            group="optimization",
            help="Size of an update. 2e-4 suits a 4-bit model, 1e-4 an 8-bit one, 5e-5 to 1e-4 "
            "full precision; spikes mean it is too high.",
            effect=Effect(quality="too low learns slowly; too high spikes and forgets"),
            step="one_two_five",
            minimum=0,
            maximum=10,
            mlx_lm="flag",
            resume="rate",
        ),
    ] = 1e-5
    loraplus_lr_ratio: Annotated[
        float,
        Declared(
            group="optimization",
            help="How many times learning_rate the adapter's second matrices, B, are trained with "
            "(LoRA+); 16 is its authors' choice, 1 is off.",
            effect=Effect(
                quality="learns faster from the same rate; halve learning_rate if the loss spikes"
            ),
            step="double",
            minimum=1,
            maximum=1024,
            meanings={"1": "off"},
            resume="fixed",
        ),
    ] = 1.0
    batch_size: Annotated[
        int,
        Declared(
            group="optimization",
            help="Records per step; rows, if they are packed.",
            effect=Effect(
                memory="activations grow with it",
                speed="more tokens per second on a GPU, longer steps",
                quality="steadier, with fewer updates per epoch",
            ),
            step="one",
            minimum=1,
            maximum=4096,
            unit="records",
            mlx_lm="flag",
            resume="reorders",
            changes_tokens="batches",
            reduction=Reduction(order=2, smallest=1),
        ),
    ] = 4
    grad_accumulation_steps: Annotated[
        int,
        Declared(
            group="optimization",
            help="Steps whose gradients are added up for one update: a larger batch in less "
            "memory.",
            effect=Effect(
                memory="one more copy of the gradients",
                speed="the same per step",
                quality="like a batch that many times as large: fewer updates per epoch",
            ),
            step="one",
            minimum=1,
            maximum=4096,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 1
    grad_accumulation_by: Annotated[
        AccumulationWeight,
        Declared(
            group="optimization",
            help="What each step counts for in an accumulated update: its trained tokens, which "
            "equals a larger batch, or one each, as in mlx-lm.",
            effect=Effect(quality="steps: short batches count as much as long ones"),
            before="steps",
        ),
    ] = "tokens"
    max_grad_norm: Annotated[
        float,
        Declared(
            group="optimization",
            help="Clip gradients to this norm, so that one odd batch can't throw the weights far; "
            "1 is usual, 0 is off.",
            effect=Effect(quality="low values limit the damage of odd batches"),
            step="one_two_five",
            minimum=0,
            maximum=1_000_000,
            finest=0.1,
            meanings={"0": "off"},
        ),
    ] = 0.0
    neftune_noise_alpha: Annotated[
        float,
        Declared(
            group="optimization",
            help="Add random noise to the embedded tokens in training steps (NEFTune), scaled by "
            "this / √(tokens × width); 5 is its authors' choice, 0 is off.",
            effect=Effect(
                quality="answers copy a small dataset less literally, and get longer",
            ),
            step="one",
            minimum=0,
            maximum=1000,
            meanings={"0": "off"},
        ),
    ] = 0.0
    iters: Annotated[
        int,
        Declared(
            group="optimization",
            help="Training steps, one batch each.",
            effect=Effect(
                speed="time grows with it", quality="too few learn little, many epochs overfit"
            ),
            step="ten",
            minimum=1,
            maximum=100_000_000,
            unit="steps",
            mlx_lm="flag",
        ),
    ] = 1000
    seed: Annotated[
        int,
        Declared(
            group="optimization",
            help="Decides the adapter's initial weights, the order of the records and the dropout.",
            effect=Effect(quality="another seed shows how much results vary by chance"),
            step="one",
            minimum=0,
            maximum=2**32 - 1,
            mlx_lm="flag",
            resume="reorders",
            changes_tokens="batches",
            kept_by_presets=True,
        ),
    ] = 0
    lr_schedule: LrSchedule | None = None
    grad_checkpoint: Annotated[
        bool,
        Declared(
            group="memory",
            help="Recompute activations in the backward pass instead of keeping them.",
            effect=Effect(
                memory="far less: blocks keep only their inputs",
                speed="about a third slower: each trained block is computed twice",
                quality="the same",
            ),
            mlx_lm="switch",
            reduction=Reduction(order=1, instead={False: True}),
        ),
    ] = False
    attention: Annotated[
        Literal["auto", "backend", "blocks"],
        Declared(
            group="memory",
            help="Attention by MLX's own kernels, or in blocks of queries whose scores are "
            "computed again; auto takes MLX's own where they keep no scores.",
            effect=Effect(
                memory="blocks grow with the length; backend may keep all pairs of tokens",
                speed="whichever is faster depends on the device",
                quality="the same",
            ),
            before="auto",
        ),
    ] = "auto"
    quantized_products: Annotated[
        Literal["auto", "packed", "unpacked"],
        Declared(
            group="memory",
            help="Multiply with quantized weights as they are, or unpack each matrix first; auto "
            "takes what is faster by the number of tokens.",
            effect=Effect(
                memory="unpacked holds one matrix more",
                speed="unpacked is faster with many tokens on an NVIDIA GPU",
                quality="the same",
            ),
            before="auto",
        ),
    ] = "auto"
    compile_steps: Annotated[
        Literal["auto", "always", "never"],
        Declared(
            group="memory",
            help="Join a step's operations to kernels of their own. On an NVIDIA GPU these are "
            "compiled once for a machine, in minutes for recurrent layers: auto has a process "
            "beside the run make them and joins the operations from the step on that finds them; "
            "always waits for them in the first step.",
            effect=Effect(
                memory="less where joined",
                speed="joined is faster with recurrent layers on an NVIDIA GPU",
                quality="the same",
            ),
            before="auto",
        ),
    ] = "auto"
    clear_cache_threshold: Annotated[
        int,
        Declared(
            group="memory",
            help="Free MLX's cache between steps when it holds more than this; 0 always frees it.",
            effect=Effect(
                memory="what MLX may keep between steps", speed="less waiting for memory"
            ),
            minimum=0,
            maximum=2**50,
            unit="bytes",
            mlx_lm="flag",
        ),
    ] = 0
