"""The parameters of a recipe that say what is trained on what: model and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from mlxft.errors import RecipeError
from mlxft.recipe.chat_template import BUILT_IN, ChatTemplate, check_arguments
from mlxft.recipe.declaration import Declared, Effect, OtherName, Reduction

FineTuneType = Literal["lora", "dora", "full"]
Overlong = Literal["truncate", "split", "drop"]
FaultyRecords = Literal["leave_out", "refuse"]
Reasoning = Literal["train", "mask", "drop"]
TrainOn = Literal["everything", "last_answer", "all_answers"]


def _check_columns(columns: Mapping[str, str]) -> None:
    for one, other in (("role", "content"), ("user", "assistant")):
        if one in columns and columns[one] == columns.get(other):
            raise RecipeError(
                f"columns has {columns[one]} for both {one} and {other}; change one of them."
            )


class InputParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Model and data."""

    model: Annotated[
        str,
        Declared(
            group="model",
            help="A local MLX model folder, a GGUF file, a Hugging Face id, or demo.",
            effect=Effect(
                memory="its weights; 4 bits take a quarter of bfloat16",
                speed="by its parameter count",
                quality="larger models know more; 4 bits lose a little",
            ),
            mlx_lm="flag",
            changes_tokens="tokenizer",
            kept_by_presets=True,
        ),
    ] = ""
    fine_tune_type: Annotated[
        FineTuneType,
        Declared(
            group="model",
            help="lora trains a low-rank update; dora adds a magnitude to it; full trains the "
            "layers themselves.",
            effect=Effect(
                memory="lora least, full by far the most",
                speed="lora fastest, dora slowest",
                quality="dora helps at low rank; full can learn and forget most",
            ),
            mlx_lm="flag",
            resume="fixed",
            reduction=Reduction(order=5, instead={"full": "lora"}),
        ),
    ] = "lora"
    trust_remote_code: Annotated[
        bool,
        Declared(
            group="model",
            help="Run Python code that comes with the model; only if you trust it.",
            mlx_lm="switch",
            kept_by_presets=True,
        ),
    ] = False
    data: Annotated[
        str,
        Declared(
            group="data",
            help="Folder with train.jsonl and, optionally, valid.jsonl and test.jsonl; or one "
            "file, or a Hugging Face dataset.",
            effect=Effect(
                memory="its longest record",
                speed="its tokens",
                quality="matters more than any other parameter",
            ),
            mlx_lm="flag",
            resume="reorders",
            kept_by_presets=True,
        ),
    ] = "data"
    max_seq_length: Annotated[
        int,
        Declared(
            group="data",
            help="Longer records are truncated, split or dropped, as overlong says.",
            effect=Effect(
                memory="activations grow with it if records are that long",
                speed="only if records are longer",
                quality="truncated text is not learned",
            ),
            step="double",
            minimum=8,
            maximum=1_048_576,
            unit="tokens",
            mlx_lm="flag",
            resume="reorders",
            changes_tokens="truncation",
            reduction=Reduction(order=3, smallest=256),
        ),
    ] = 2048
    overlong: Annotated[
        Overlong,
        Declared(
            group="data",
            help="What happens to a record longer than max_seq_length: truncate cuts it and keeps "
            "its end-of-text token, split trains it in pieces, drop leaves it out.",
            effect=Effect(
                speed="split trains more rows",
                quality="split keeps all text; truncate and drop lose some",
            ),
            resume="reorders",
            changes_tokens="truncation",
        ),
    ] = "truncate"
    packing: Annotated[
        bool,
        Declared(
            group="data",
            help="Put several short records in a row, each attending only to itself, to save "
            "padding.",
            effect=Effect(
                memory="rows are full, and need an attention mask",
                speed="more trained tokens per second with short records",
                quality="more records per step: fewer updates per epoch",
            ),
            resume="reorders",
            changes_tokens="batches",
        ),
    ] = False
    faulty_records: Annotated[
        FaultyRecords,
        Declared(
            group="data",
            help="leave_out skips records with faults and lists them; refuse stops before the run.",
            resume="reorders",
        ),
    ] = "leave_out"
    columns: Annotated[
        dict[str, str],
        Declared(
            group="data",
            help="Your data's field names where they differ from the usual ones, as "
            "{prompt: question, completion: reply}; role and content are keys of messages, user "
            "and assistant the names of those roles.",
            example="{prompt: question, completion: reply}",
            check=_check_columns,
            resume="reorders",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = {}
    train_on: Annotated[
        TrainOn,
        Declared(
            group="data",
            help="Which tokens are trained: everything, the prompt's too; the last_answer of each "
            "record; or all_answers, as the model would have to write each of them. dpo, ipo, "
            "simpo and kto train last answers alone.",
            effect=Effect(
                speed="all_answers trains a conversation once where its turns would be records",
                quality="answers alone teach to answer, not to ask; helps with similar prompts",
            ),
            mlx_lm="switch",
            other_name=OtherName(
                key="mask_prompt", values={"everything": False, "last_answer": True}
            ),
            resume="reorders",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = "everything"
    reasoning: Annotated[
        Reasoning,
        Declared(
            group="data",
            help="What becomes of the thoughts before an answer: train learns to write them, mask "
            "only reads them, drop leaves them out. Which earlier thoughts are read is up to the "
            "chat template.",
            effect=Effect(
                memory="drop has shorter records",
                quality="train teaches to think as the data does; mask leaves thinking as it is; "
                "drop teaches to answer at once",
            ),
            resume="reorders",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = "train"
    chat_template: Annotated[
        str | None,
        Declared(
            group="data",
            help="The chat template in place of the model's own: a Jinja file, one of the model's "
            f"named templates, or {BUILT_IN}; saved with the adapter, which answers with it.",
            effect=Effect(
                quality="one that the model knows needs less training; a base model needs one"
            ),
            resume="fixed",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = None
    chat_template_args: Annotated[
        dict[str, Any],
        Declared(
            group="data",
            help="Variables of the chat template, as {enable_thinking: false}, "
            "{reasoning_effort: low} or {date_string: 1 May 2026}; saved with the adapter.",
            example="{enable_thinking: false}",
            check=check_arguments,
            resume="fixed",
            changes_tokens="tokens",
            kept_by_presets=True,
        ),
    ] = {}
    resume_adapter_file: Annotated[
        str | None,
        Declared(
            group="model",
            help="Start from these adapter weights, a file or folder, instead of new ones.",
            effect=Effect(quality="builds on what that adapter has learned"),
            mlx_lm="flag",
            kept_by_presets=True,
        ),
    ] = None

    @property
    def template(self) -> ChatTemplate:
        """What replaces the model's chat template."""
        return ChatTemplate(template=self.chat_template, arguments=self.chat_template_args)
