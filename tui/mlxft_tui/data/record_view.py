"""One record in three ways: as written, as the chat template makes it, and as tokens."""

from __future__ import annotations

import re
from typing import Final, Literal

from textual.content import Content

from mlxft.data.formats import parts
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.validation import Line
from mlxft.text.printable import printable
from mlxft_tui.text.theme import MUTED

View = Literal["text", "templated", "tokens"]
VIEWS: Final[tuple[View, ...]] = ("text", "templated", "tokens")

LONGEST = 20_000
"""Characters, or tokens, shown of a record; laying out more would hold up the keys."""

Kind = Literal["trained", "masked", "cut"]
_STYLES: Final[dict[Kind, tuple[str, str]]] = {
    "trained": ("bold $success on $success 14%", "bold $success on $success 26%"),
    "masked": ("$foreground 55% on $foreground 4%", "$foreground 55% on $foreground 10%"),
    "cut": ("strike $error on $error 8%", "strike $error on $error 16%"),
}
"""Neighbouring tokens take turns, so that each one's bounds are seen."""


_SMALL: Final = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
"""A token's number looks like no text of the record."""


def text_content(line: Line, raw: bytes, sought: re.Pattern[str] | None = None) -> Content:
    """The record's parts under their labels, after what is wrong with it; `sought` stands out.

    A line that holds no record is shown as it stands in the file.
    """
    blocks = [
        Content.styled(printable(f"✗ {fault.problem}; {fault.remedy}."), "$error")
        for fault in line.faults
    ]
    if line.fields is None:
        blocks.append(raw_content(raw))
    for part in parts(line.fields) if line.fields is not None else ():
        label = Content.styled(printable(part.label), "bold $accent")
        blocks.append(Content.assemble(label, "\n", shortened(part.text)))
    content = Content("\n\n").join(blocks)
    return (
        content.highlight_regex(sought, style="bold $accent on $accent 25%") if sought else content
    )


def raw_content(raw: bytes) -> Content:
    """A line as it stands in the file."""
    return shortened(raw.decode("utf-8", "replace").rstrip("\r\n"))


def templated_content(view: TokenView) -> Content:
    """The record as the model's chat template writes it."""
    return shortened(view.templated)


def tokens_content(view: TokenView, show_ids: bool) -> Content:
    """Every token in its own field: trained, masked or cut; each piece of a split record apart."""
    shown = view.pieces[:LONGEST]
    fields: list[Content | str | tuple[str, str]] = []
    for at, piece in enumerate(shown):
        if at and piece.row != shown[at - 1].row:
            fields.append((f"\n── piece {piece.row + 1} ──\n", MUTED))
        # A special token looks otherwise than a text that reads the same.
        style = _STYLES[kind(piece)][at % 2] + (" italic" if piece.special else "")
        text = _token_text(piece)
        if show_ids:
            # Beside the mark of a line's end, not at the beginning of the next line.
            end = "\n" if text.endswith("\n") else ""
            text = f"{text.removesuffix(end)}{str(piece.id).translate(_SMALL)} {end}"
        fields.append((text, style))
    rest = len(view.pieces) - len(shown)
    more = Content.styled(f"\n… {rest} more tokens" if rest else "", MUTED)
    notes = [Content.styled(f"\n! {printable(note)}", "$warning") for note in view.notes]
    return Content.assemble(legend(view), *notes, "\n\n", *fields, more)


def legend(view: TokenView) -> Content:
    """How many tokens there are of each kind, in that kind's look."""
    kinds = [kind(piece) for piece in view.pieces]
    counts = [(each, kinds.count(each)) for each in _STYLES]
    named = [
        Content.styled(f" {name} {count} ", _STYLES[name][1]) for name, count in counts if count
    ]
    return Content("  ").join([*named, Content.styled(f"of {len(kinds)} tokens", MUTED)])


def kind(piece: TokenPiece) -> Kind:
    """What the trainer does with a token."""
    if not piece.kept:
        return "cut"
    return "trained" if piece.trained else "masked"


def shortened(text: str) -> Content:
    """The text, safe to show and not longer than can be laid out at once."""
    if len(text) <= LONGEST:
        return Content(printable(text))
    more = f"\n… {len(text) - LONGEST} more characters"
    return Content.assemble(printable(text[:LONGEST]), (more, MUTED))


def _token_text(piece: TokenPiece) -> str:
    text = printable(piece.text)
    return text.replace("\n", "↵\n") if text else "∅"
