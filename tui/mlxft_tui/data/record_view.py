"""One record in three views: as written, rendered by the chat template, and as tokens."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, Literal

from textual.content import Content

from mlxft.data.formats import parts
from mlxft.data.token_view import TokenPiece, TokenView
from mlxft.data.validation import RecordLine
from mlxft.text.printable import printable
from mlxft_tui.text.theme import MUTED

View = Literal["text", "templated", "tokens"]
VIEWS: Final[tuple[View, ...]] = ("text", "templated", "tokens")

LONGEST = 20_000
"""Most characters or tokens shown of a record; laying out more would delay the keys."""

TokenUse = Literal["trained", "masked", "cut"]
_STYLES: Final[dict[TokenUse, tuple[str, str]]] = {
    "trained": ("bold $success on $success 14%", "bold $success on $success 26%"),
    "masked": ("$foreground 55% on $foreground 4%", "$foreground 55% on $foreground 10%"),
    "cut": ("strike $error on $error 8%", "strike $error on $error 16%"),
}
"""Two alternating styles for each use, so that token boundaries are visible."""

_WEIGHTED: Final = (
    "bold underline $accent on $accent 14%",
    "bold underline $accent on $accent 26%",
)
"""Those of trained tokens with a weight other than 1."""

_SMALL: Final = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
"""Subscript digits distinguish token ids from the record's text."""


def text_content(
    line: RecordLine,
    raw: bytes,
    highlight: re.Pattern[str] | None = None,
    *,
    compares: bool = False,
) -> Content:
    """The record's faults and warnings and its labelled parts, with `highlight` highlighted.

    A line without a record is shown as it is in the file. With `compares` both answers of a
    preference are named so.
    """
    blocks = [
        Content.styled(printable(f"✗ {fault.problem}; {fault.remedy}."), "$error")
        for fault in line.faults
    ]
    warnings = (*line.warnings, *([line.excluded] if line.excluded else ()))
    blocks += [Content.styled(printable(f"! {each.problem}."), "$warning") for each in warnings]
    if line.fields is None:
        blocks.append(raw_content(raw))
    shown = parts(line.fields) if line.fields is not None else ()
    for at, part in enumerate(shown, 1):
        label = Content.styled(printable(part.label), "bold $accent")
        if compares and line.rejected is not None and at == len(shown):
            label = Content.styled("chosen", "bold $success")
        blocks.append(Content.assemble(label, "\n", shortened(part.text)))
    if line.rejected is not None:
        label = Content.styled("rejected", "bold $error")
        blocks.append(Content.assemble(label, "\n", shortened(parts(line.rejected)[-1].text)))
    content = Content("\n\n").join(blocks)
    return (
        content.highlight_regex(highlight, style="bold $accent on $accent 25%")
        if highlight
        else content
    )


def raw_content(raw: bytes) -> Content:
    """A line as it is in the file."""
    return shortened(raw.decode("utf-8", "replace").rstrip("\r\n"))


def templated_content(view: TokenView) -> Content:
    """The record as the model's chat template renders it."""
    return shortened(view.templated)


def tokens_content(view: TokenView, show_ids: bool) -> Content:
    """All tokens, coloured as trained, masked or cut, with the pieces of a split record apart."""
    shown = view.pieces[:LONGEST]
    fields: list[Content | str | tuple[str, str]] = []
    for at, piece in enumerate(shown):
        if at and piece.row != shown[at - 1].row:
            fields.append((f"\n── piece {piece.row + 1} ──\n", MUTED))
        weight = _weight_of(piece)
        if weight != 1 and (not at or weight != _weight_of(shown[at - 1])):
            fields.append((f"×{weight:g} ", MUTED))
        # Italics distinguish a special token from the same text.
        styles = _STYLES[use_of(piece)] if weight == 1 else _WEIGHTED
        style = styles[at % 2] + (" italic" if piece.special else "")
        text = _token_text(piece)
        if show_ids:
            # Put the id before the line break, not at the beginning of the next line.
            end = "\n" if text.endswith("\n") else ""
            text = f"{text.removesuffix(end)}{str(piece.id).translate(_SMALL)} {end}"
        fields.append((text, style))
    rest = len(view.pieces) - len(shown)
    more = Content.styled(f"\n… {rest} more tokens" if rest else "", MUTED)
    notes = [Content.styled(f"\n! {printable(note)}", "$warning") for note in view.notes]
    return Content.assemble(legend(view), *notes, "\n\n", *fields, more)


def of_sides(chosen: Content, rejected: Content) -> Content:
    """Both sides of a preference, one below the other."""
    first = Content.styled("chosen", "bold $success")
    second = Content.styled("rejected", "bold $error")
    return Content.assemble(first, "\n", chosen, "\n\n", second, "\n", rejected)


def legend(view: TokenView) -> Content:
    """The number of tokens of each use, in its style, and of those with each weight but 1."""
    uses = [use_of(piece) for piece in view.pieces]
    counts = [(each, uses.count(each)) for each in _STYLES]
    shown = [
        Content.styled(f" {name} {count} ", _STYLES[name][1]) for name, count in counts if count
    ]
    line = Content("  ").join([*shown, Content.styled(f"of {len(uses)} tokens", MUTED)])
    weights = Counter(_weight_of(piece) for piece in view.pieces)
    del weights[1.0]
    if not weights:
        return line
    weighted = [
        Content.styled(f" ×{weight:g}: {count} ", _WEIGHTED[1])
        for weight, count in sorted(weights.items())
    ]
    explained = Content.styled("weights in the loss", MUTED)
    return Content.assemble(line, "\n", Content("  ").join([*weighted, explained]))


def use_of(piece: TokenPiece) -> TokenUse:
    """What the trainer does with a token."""
    if not piece.kept:
        return "cut"
    return "trained" if piece.trained else "masked"


def _weight_of(piece: TokenPiece) -> float:
    """A trained token's weight in the loss; 1 for others, which have none."""
    return piece.weight if use_of(piece) == "trained" else 1.0


def shortened(text: str) -> Content:
    """The text, safe to show and cut after `LONGEST` characters."""
    if len(text) <= LONGEST:
        return Content(printable(text))
    more = f"\n… {len(text) - LONGEST} more characters"
    return Content.assemble(printable(text[:LONGEST]), (more, MUTED))


def _token_text(piece: TokenPiece) -> str:
    text = printable(piece.text)
    return text.replace("\n", "↵\n") if text else "∅"
