"""The terminal shows what Textual painted and receives only differences."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pyte
import pytest
from rich.color import ColorSystem
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region, Size
from textual.strip import Strip

from mlxft_tui.terminal.painting import Painter

SIZE = Size(30, 6)
INKS = [
    Style.parse(text)
    for text in (
        "white on black",
        "red on black",
        "bold red on black",
        "white on blue",
        "underline green on blue",
        "reverse yellow on black",
    )
]
TEXTS = ("step 412", "loss 0.805", "  ", "▕███▏", "模型", "┌─┐", "→ a")


def frame(chance: random.Random) -> list[Strip]:
    """Random lines in random styles."""
    lines = []
    for _ in range(SIZE.height):
        pieces = [Segment(chance.choice(TEXTS), chance.choice(INKS)) for _ in range(4)]
        lines.append(Strip(pieces).adjust_cell_length(SIZE.width, INKS[0]))
    return lines


def whole(lines: Sequence[Strip]) -> LayoutUpdate:
    return LayoutUpdate([[line] for line in lines], SIZE.region)


class Shown:
    """A terminal and the visible attributes of its cells."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(*SIZE)
        self._stream = pyte.Stream(self.screen)

    def feed(self, sequences: str) -> None:
        self._stream.feed(sequences)

    def cells(self) -> list[list[object]]:
        return [[_seen(self.screen.buffer[y][x]) for x in range(SIZE.width)] for y in range(6)]


def _seen(cell: pyte.screens.Char) -> object:
    if cell.data == " " and not (cell.underscore or cell.reverse):
        return " ", cell.bg
    return cell


def as_textual_paints(lines: Sequence[Strip]) -> list[list[object]]:
    console = Console(color_system="truecolor", force_terminal=True, width=SIZE.width)
    shown = Shown()
    shown.feed(whole(lines).render_segments(console).replace("\n", "\r\n"))
    return shown.cells()


class TestScreen:
    @pytest.mark.parametrize("seed", range(5))
    def test_every_frame_equals_textuals_own(self, seed: int) -> None:
        chance, painter, shown = random.Random(seed), Painter(), Shown()
        lines = frame(chance)
        for _ in range(20):
            for changed in chance.sample(range(SIZE.height), 2):
                lines[changed] = frame(chance)[0]
            shown.feed(painter.difference(whole(lines), SIZE, ColorSystem.TRUECOLOR))
            assert shown.cells() == as_textual_paints(lines)

    def test_a_partial_update_is_painted_at_its_position(self) -> None:
        painter, shown = Painter(), Shown()
        lines = [Strip([Segment("." * 30, INKS[0])]) for _ in range(SIZE.height)]
        shown.feed(painter.difference(whole(lines), SIZE, ColorSystem.TRUECOLOR))
        chops: list[dict[int, Strip | None]] = [{0: None, 10: None} for _ in range(SIZE.height)]
        chops[2] = {0: Strip([Segment("a" * 10, INKS[0])]), 10: Strip([Segment("b" * 20, INKS[1])])}
        update = ChopsUpdate(chops, [(2, 10, 15)], [[10, 30]] * SIZE.height)
        shown.feed(painter.difference(update, SIZE, ColorSystem.TRUECOLOR))
        assert shown.screen.display[2] == "." * 10 + "b" * 5 + "." * 15

    def test_after_forget_everything_is_sent_again(self) -> None:
        painter, shown = Painter(), Shown()
        lines = frame(random.Random(1))
        painter.difference(whole(lines), SIZE, ColorSystem.TRUECOLOR)
        painter.forget()
        shown.feed(painter.difference(whole(lines), SIZE, ColorSystem.TRUECOLOR))
        assert shown.cells() == as_textual_paints(lines)

    def test_another_size_is_painted_whole(self) -> None:
        painter = Painter()
        lines = frame(random.Random(1))
        first = painter.difference(whole(lines), SIZE, ColorSystem.TRUECOLOR)
        again = painter.difference(whole(lines), Size(30, 7), ColorSystem.TRUECOLOR)
        assert first == again


class TestOutput:
    def line(self, text: str, ink: int = 0) -> LayoutUpdate:
        return LayoutUpdate([[Strip([Segment(text, INKS[ink])])]], Region(0, 0, len(text), 1))

    def sent(self, *updates: LayoutUpdate) -> str:
        """The output of the last update."""
        painter = Painter()
        return [painter.difference(each, SIZE, ColorSystem.TRUECOLOR) for each in updates][-1]

    def test_no_difference_sends_nothing(self) -> None:
        assert self.sent(self.line("step 412"), self.line("step 412")) == ""

    def test_only_changed_cells_are_sent(self) -> None:
        sent = self.sent(self.line("step 412  loss"), self.line("step 413  loss"))
        assert "3" in sent
        assert "step" not in sent
        assert "loss" not in sent

    def test_small_gaps_are_written(self) -> None:
        sent = self.sent(self.line("a.b"), self.line("x.y"))
        assert "x.y" in sent

    def test_large_gaps_are_skipped(self) -> None:
        sent = self.sent(self.line("a" + "." * 20 + "b"), self.line("x" + "." * 20 + "y"))
        assert "x\x1b[20Cy" in sent

    def test_a_colour_is_sent_once(self) -> None:
        sent = self.sent(self.line("a" + "." * 20 + "b", 1), self.line("x" + "." * 20 + "y", 1))
        assert sent.count("31") == 1

    def test_a_blank_in_another_foreground_is_no_difference(self) -> None:
        assert self.sent(self.line("  ", 0), self.line("  ", 1)) == ""

    def test_output_ends_in_the_default_style(self) -> None:
        assert self.sent(self.line("x", 2)).endswith("\x1b[0m")
