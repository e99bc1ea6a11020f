"""Models as lines: name, size and verdict, and more columns where there is space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.content import Content

from mlxft.hub.listed import ListedModel
from mlxft.hub.verdicts import VERDICTS, context, parameters
from mlxft.text import figures
from mlxft.text.printable import printable_line
from mlxft_tui.text.theme import MUTED
from mlxft_tui.widgets.line_list import LineList

NARROW: Final = 96
"""Cells below which quantization and context are left to the description."""

WIDE: Final = 130
"""Cells from which the hub's figures are shown."""

_VERDICT_CELLS: Final = 18
_STYLES: Final = {"fits": "$success", "tight": "$warning", "wont_fit": "$error"}


class ModelList(LineList, keys="picker"):
    """One line per model."""

    HELP = """Models of the hub's cache, of the project and of LM Studio, judged by their
    config.json and the sizes of their files: whether mlx-lm can train them and whether a run with
    the present recipe fits this machine. Type to filter. A search asks the hub, which sends no
    weights for it; a model that isn't here yet is downloaded first, resumed if it is interrupted,
    and usable once every file has the hub's checksum."""

    def __init__(self) -> None:
        super().__init__()
        self.models: Sequence[ListedModel] = ()

    def show(self, models: Sequence[ListedModel], *, keep: str = "") -> None:
        """Show these models, with the cursor on the one of this name if it is among them."""
        names = [each.name for each in models]
        self.models = models
        self.count = len(models)
        self.cursor = names.index(keep) if keep in names else 0
        self.refresh()

    @property
    def selected(self) -> ListedModel | None:
        """The model under the cursor."""
        return self.models[self.cursor] if self.models else None

    def line(self, index: int, width: int) -> Content:
        model = self.models[index]
        columns = _columns(model, width)
        cells = max(8, width - sum(len(each) + 2 for each in columns) - _VERDICT_CELLS - 2)
        name = shortened(printable_line(model.name), cells)
        return Content.assemble(
            name.ljust(cells), *((f"  {each}", MUTED) for each in columns), "  ", verdict(model)
        )


def _columns(model: ListedModel, width: int) -> list[str]:
    size = figures.size(model.size) if model.size is not None else figures.NONE
    columns = [f"{size:>8}", f"{parameters(model.parameters):>5}"]
    if width >= NARROW:
        kind = printable_line(model.quantization)[:8] or figures.NONE
        columns += [f"{kind:<8}", f"{context(model.context):>5}"]
    if width >= WIDE:
        columns.append(_popularity(model))
    return columns


def _popularity(model: ListedModel) -> str:
    if model.downloads is None:
        return " " * 25
    return f"{figures.count(model.downloads):>11} ↓  {model.updated:>10}"


def verdict(model: ListedModel) -> Content:
    """Whether a model can be trained here, in few cells."""
    if model.hindrance:
        text = "gated" if model.locked == "gated" else "can't be trained"
        return Content.styled(text.ljust(_VERDICT_CELLS), "$error")
    words = VERDICTS[model.verdict]
    if model.memory is not None:
        words += f" {figures.gigabytes(model.memory)} GB"
    if model.locked == "gated":
        words += " ⚿"
    return Content.styled(words.ljust(_VERDICT_CELLS), _STYLES.get(model.verdict, ""))


def shortened(name: str, cells: int) -> str:
    """A name in so many cells, without its owner first and then without its middle."""
    if len(name) <= cells:
        return name
    own = "…/" + name.rpartition("/")[2] if "/" in name else name
    if len(own) <= cells:
        return own
    end = (cells - 1) * 2 // 3
    return f"{own[: cells - 1 - end]}…{own[-end:]}"
