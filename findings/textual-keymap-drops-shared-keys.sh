#!/usr/bin/env bash
# Textual's keymap unbinds all actions of a key when one of them gets another key.
# This project: bindings that share a key share an id, so that they move together.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    textual==8.2.8
cd "$folder"
venv/bin/python - <<'EOF'
import asyncio
import sys

from textual.app import App
from textual.binding import Binding


class Player(App):
    """p plays or pauses, whichever is possible."""

    BINDINGS = [Binding("p", "play", id="play"), Binding("p", "pause", id="pause")]

    def __init__(self):
        super().__init__()
        self.playing = False
        self.actions = []

    def check_action(self, action, parameters):
        return self.playing if action == "pause" else not self.playing if action == "play" else True

    def action_play(self):
        self.playing = True
        self.actions.append("play")

    def action_pause(self):
        self.playing = False
        self.actions.append("pause")


async def actions(keymap, keys):
    app = Player()
    async with app.run_test() as pilot:
        app.set_keymap(keymap)
        await pilot.press(*keys)
    return app.actions


default = asyncio.run(actions({}, ["p", "p"]))
remapped = asyncio.run(actions({"play": "x"}, ["x", "p"]))
print("Textual 8.2.8, p bound to 'play' and to 'pause'; set_keymap({'play': 'x'})")
print("expected: x plays, p still pauses:", default)
print("seen:     x plays, p does nothing:", remapped)
sys.exit(not (default == ["play", "pause"] and remapped == ["play"]))
EOF
