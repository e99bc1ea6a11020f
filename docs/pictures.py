"""Draw the pictures of the pages: the application on the demo, which it trains for that.

``python docs/pictures.py``, or ``make pictures``, takes a few minutes and writes data.svg,
recipe.svg, train.svg, chat.svg and runs.svg beside this file. ``python docs/pictures.py data
recipe``, or ``make pictures ONLY="data recipe"``, draws these alone, and trains only for those that
show a run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

import msgspec
from textual.pilot import Pilot

from mlxft.recipe import Recipe
from mlxft.storage.paths import cache_dir, sample_data
from mlxft_tui.app import MlxftApp
from mlxft_tui.cli.demo import demo_recipe
from mlxft_tui.frame.screen import AppScreen
from mlxft_tui.recipe.form import RecipeRows

DOCS: Final = Path(__file__).parent
NAMES: Final = ("data", "recipe", "train", "chat", "runs")
OF_A_RUN: Final = frozenset({"train", "chat", "runs"})
SIZE: Final = (120, 40)
SHOWN_STEP: Final = 48
"""The step of the picture of the Train screen: most of the curve, and the run still live."""

SHOWN_PARAMETER: Final = "lora_parameters.rank"
"""The row under the cursor in the picture of the Recipe screen: its costs are shown."""

CELL: Final = 12.2
"""Width of a character in a picture."""

PATIENCE: Final = 600.0
POLL_SECONDS: Final = 0.2


def main() -> None:
    """Draw the pictures, in a home folder of their own so that no path of this machine shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} (default all)"
    )
    wanted = parser.parse_args().names or NAMES
    if unknown := set(wanted) - set(NAMES):
        parser.error(f"there is no picture {', '.join(sorted(unknown))}; choose {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"MLXFT_CACHE": str(cache_dir()), "HOME": home}
        for name in ("SSH_CONNECTION", "SSH_TTY", "NO_COLOR"):
            os.environ.pop(name, None)
        project = Path(home) / "requests"
        shutil.copytree(sample_data(), project / "data")
        os.chdir(project)
        recipe = msgspec.structs.replace(demo_recipe(), data="data", steps_per_eval=20)
        asyncio.run(draw(project, recipe, wanted))


async def draw(project: Path, recipe: Recipe, wanted: Collection[str]) -> None:
    """Write the wanted pictures, each of a screen; those of a run follow the demo's training."""
    app = MlxftApp(project, recipe)
    async with app.run_test(size=SIZE) as pilot:
        await on(pilot, "1", lambda screen: screen.model is not None and bool(screen.tokens))
        if "data" in wanted:
            await pilot.press("m", "m")
            await idle(pilot)
            save(app, "data")
        await on(pilot, "2", lambda screen: screen.model is not None)
        if "recipe" in wanted:
            while app.screen.query_one(RecipeRows).parameter.key != SHOWN_PARAMETER:
                await pilot.press("down")
            await idle(pilot)
            save(app, "recipe")
        if OF_A_RUN.intersection(wanted):
            await draw_run(pilot, app, wanted)


async def draw_run(pilot: Pilot[None], app: MlxftApp, wanted: Collection[str]) -> None:
    """Train, and write the wanted pictures of the run, of its chat and of the table of runs."""
    await on(
        pilot, "t", lambda screen: screen.run is not None and screen.run.view.step >= SHOWN_STEP
    )
    if "train" in wanted:
        save(app, "train")
    await until(pilot, lambda screen: screen.run is not None and not screen.run.live)
    if "chat" in wanted:
        await pilot.press("4", "ctrl+b")
        for _ in range(2):
            await pilot.press("ctrl+n", "enter")
            await idle(pilot)
        save(app, "chat")
    if "runs" in wanted:
        await on(pilot, "f5")
        await idle(pilot)
        save(app, "runs")


async def on(
    pilot: Pilot[None], key: str, ready: Callable[[AppScreen], bool] = lambda _: True
) -> None:
    """Press a key, and wait until the screen in view is as wanted. Raises `TimeoutError`."""
    await pilot.press(key)
    await until(pilot, ready)


async def until(pilot: Pilot[None], ready: Callable[[AppScreen], bool]) -> None:
    """Wait until the screen in view is as wanted. Raises `TimeoutError`."""
    async with asyncio.timeout(PATIENCE):
        while not (isinstance(pilot.app.screen, AppScreen) and ready(pilot.app.screen)):
            await pilot.pause(POLL_SECONDS)


async def idle(pilot: Pilot[None]) -> None:
    """Wait until what a key has started is done; the endless workers follow what others change."""
    await pilot.pause(1)
    endless = ("follow", "machine", "recipe", "supervise")
    async with asyncio.timeout(PATIENCE):
        while any(each.is_running and each.group not in endless for each in pilot.app.workers):
            await pilot.pause(POLL_SECONDS)
    await pilot.pause(1)


def save(app: MlxftApp, name: str) -> None:
    """Write the screen as it is. Raises `ValueError` rather than show a path of this machine."""
    picture = app.export_screenshot(title="mlxft-tui")
    for path in (str(Path.home()), str(DOCS.parent)):
        if path in picture:
            around = picture[picture.index(path) - 40 :][:120]
            raise ValueError(f"The picture of {name} shows a path of this machine: {around}")
    (DOCS / f"{name}.svg").write_text(_INDENTED.sub(_moved, picture), encoding="utf-8")


_INDENTED: Final = re.compile(
    r'x="([\d.]+)"( y="[\d.]+") textLength="([\d.]+)"([^>]*)>((?:&#160;)+)'
)


def _moved(found: re.Match[str]) -> str:
    """A text that begins with blanks, which some viewers drop, begun at its first sign instead."""
    blanks = found[5].count(";") * CELL
    x, length = float(found[1]) + blanks, float(found[3]) - blanks
    if length < CELL:
        return found[0]
    return f'x="{x:.6g}"{found[2]} textLength="{length:.6g}"{found[4]}>'


if __name__ == "__main__":
    main()
