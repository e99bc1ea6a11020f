"""The recipe: every training parameter, declared once, with its values and its files."""

from mlxft.recipe.declaration import GROUPS, Declared, Effect, Group, Parameter, Resume, Tokens
from mlxft.recipe.files import apply_settings, dump, from_mapping, load, save, to_mapping
from mlxft.recipe.parameters import (
    PARAMETERS,
    FaultyRecords,
    FineTuneType,
    Optimizer,
    Overlong,
    Recipe,
    find,
    keys_where,
)
from mlxft.recipe.schedule import (
    epochs_for_iters,
    iters_for_epochs,
    resolved_schedule,
    steps_per_epoch,
    too_few_records,
    updates,
    validations,
)
from mlxft.recipe.sections import LoraParameters, LrSchedule, ScheduleName
from mlxft.recipe.values import check, get, replace, step, token_settings

__all__ = [
    "GROUPS",
    "PARAMETERS",
    "Declared",
    "Effect",
    "FaultyRecords",
    "FineTuneType",
    "Group",
    "LoraParameters",
    "LrSchedule",
    "Optimizer",
    "Overlong",
    "Parameter",
    "Recipe",
    "Resume",
    "ScheduleName",
    "Tokens",
    "apply_settings",
    "check",
    "dump",
    "epochs_for_iters",
    "find",
    "from_mapping",
    "get",
    "iters_for_epochs",
    "keys_where",
    "load",
    "replace",
    "resolved_schedule",
    "save",
    "step",
    "steps_per_epoch",
    "to_mapping",
    "token_settings",
    "too_few_records",
    "updates",
    "validations",
]
