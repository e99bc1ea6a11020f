"""What more of each parameter does to memory, to speed and to what the model learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Effect:
    """In a few words each; empty where there is none worth knowing."""

    memory: str = ""
    speed: str = ""
    quality: str = ""

    @property
    def parts(self) -> list[tuple[str, str]]:
        """What is affected, and how."""
        named = (("memory", self.memory), ("speed", self.speed), ("quality", self.quality))
        return [(name, how) for name, how in named if how]

    @property
    def sentence(self) -> str:
        """All of it in one line; empty where there is no effect."""
        listed = "; ".join(f"{name}: {how.replace(';', ',')}" for name, how in self.parts)
        return f"{listed[0].upper()}{listed[1:]}." if listed else ""


NONE: Final = Effect()

EFFECTS: Final[dict[str, Effect]] = {
    "model": Effect(
        "its weights; 4 bits take a quarter of bfloat16",
        "by its parameters",
        "a larger one knows more; 4 bits lose a little",
    ),
    "fine_tune_type": Effect(
        "lora least, full most by far",
        "lora fastest, dora slowest",
        "dora helps at low rank; full can learn and forget most",
    ),
    "trust_remote_code": NONE,
    "data": Effect("its longest record", "its tokens", "decides more than any other value"),
    "max_seq_length": Effect(
        "activations grow with it, if records are that long",
        "only as far as records are longer",
        "what is cut off is not learnt",
    ),
    "overlong": Effect(
        quality="split keeps all text; truncate and drop lose some",
        speed="split trains more rows",
    ),
    "packing": Effect(
        "rows are full, and need a mask",
        "more trained tokens a second with short records",
        "a step sees more records: fewer updates an epoch",
    ),
    "faulty_records": NONE,
    "columns": NONE,
    "mask_prompt": Effect(
        quality="learns to answer, not to ask; helps where prompts are long or alike"
    ),
    "num_layers": Effect(
        "each keeps its activations",
        "each adds a backward pass",
        "more can be learnt; 4 to 16 suit most sets",
    ),
    "lora_parameters.rank": Effect(
        "adapter, gradients and optimizer double with it",
        "hardly",
        "more can be learnt; too wide learns small sets by heart",
    ),
    "lora_parameters.scale": Effect(
        quality="learns faster and less stably; halve the rate as you double it"
    ),
    "lora_parameters.dropout": Effect(
        "a mask for each adapted layer",
        "a little slower",
        "small sets generalize better at 0.05 to 0.1",
    ),
    "lora_parameters.keys": Effect(
        "fewer layers, smaller adapter",
        "fewer layers are a little faster",
        "all layers learn most; q_proj and v_proj are the classic least",
    ),
    "optimizer": Effect(
        "adam and adamw two values a trained weight, sgd and muon one, adafactor least",
        "muon is slower",
        "adam or adamw unless you know better",
    ),
    "optimizer_config": NONE,
    "learning_rate": Effect(quality="too low learns slowly, too high spikes and forgets"),
    "batch_size": Effect(
        "activations grow with it",
        "more tokens a second on a GPU, longer steps",
        "steadier, with fewer updates an epoch",
    ),
    "grad_accumulation_steps": Effect(
        "the gradients once more",
        "as fast a step",
        "as a batch so many times as large: fewer updates an epoch",
    ),
    "max_grad_norm": Effect(quality="low values keep odd batches from doing harm"),
    "iters": Effect(
        speed="time grows with it",
        quality="too few learn little, many passes learn by heart",
    ),
    "seed": Effect(quality="another draw: how far results differ by chance"),
    "resume_adapter_file": Effect(quality="goes on from what it has learnt"),
    "lr_schedule.name": Effect(quality="falling rates end calmer than constant ones"),
    "lr_schedule.arguments": Effect(quality="its own start and length"),
    "lr_schedule.warmup": Effect(quality="steadier first updates; a tenth of the run is plenty"),
    "lr_schedule.warmup_init": NONE,
    "grad_checkpoint": Effect(
        "far less: blocks keep only their inputs",
        "each trained block is computed once more",
        "the same",
    ),
    "clear_cache_threshold": Effect(
        "what MLX may keep between steps", "less waiting for memory", ""
    ),
    "val_batches": Effect("none", "each costs about a third of a step", "a steadier measure"),
    "steps_per_eval": Effect(
        "none", "larger is less waiting", "smaller finds the best step better"
    ),
    "early_stopping": Effect(
        speed="ends what no longer helps", quality="keeps the best before it learns by heart"
    ),
    "steps_per_report": NONE,
    "save_every": Effect(speed="each costs a moment and disk", quality="none"),
    "keep_checkpoints": Effect(quality="more to choose from; each takes disk"),
    "sample_prompt": Effect(
        "keys and values of the answer", "the run waits for each answer", "shows what it has learnt"
    ),
    "sample_every": Effect(speed="larger is less waiting"),
    "prevent_sleep": NONE,
    "report_to": NONE,
    "project_name": NONE,
}
"""By the parameter's key; of a choice it tells the choices apart."""
