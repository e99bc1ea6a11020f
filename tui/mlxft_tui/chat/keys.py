"""The keys of the Chat screen."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding

CHAT_BINDINGS: Final[list[Binding]] = [
    Binding("escape", "stop", "Stop", tooltip="Stop answering or evaluating", id="back"),
    Binding(
        "escape", "leave", "Leave prompt", tooltip="Leave the prompt for the keys below", id="back"
    ),
    Binding(
        "enter",
        "write(True)",
        "Write",
        tooltip="Write a prompt, or send the test prompt",
        id="send",
    ),
    Binding("enter", "send('correct')", "Save", tooltip="Save as a training record", id="send"),
    Binding("enter", "send('edit')", "Send", tooltip="Send it as a new branch", id="send"),
    Binding("i", "write", "Write", show=False, tooltip="Write a prompt"),
    Binding(
        "ctrl+n,n",
        "example(1)",
        "Test prompt",
        tooltip="Next prompt of the test set",
        id="next_example",
    ),
    Binding(
        "p",
        "example(-1)",
        "Previous",
        show=False,
        tooltip="Previous test prompt",
        id="previous_example",
    ),
    Binding(
        "ctrl+t,t",
        "switch",
        "Base/adapter",
        tooltip="Switch between the two models",
        id="switch_base",
    ),
    Binding(
        "ctrl+b,b",
        "both",
        "Side by side",
        tooltip="Both models answer each prompt",
        id="side_by_side",
    ),
    Binding(
        "o",
        "choose",
        "Models",
        tooltip="Adapter, checkpoints, other runs: one or two",
        id="models",
    ),
    Binding("s", "sampling", "Sampling", tooltip="Sampling settings and system prompt"),
    Binding("ctrl+r,r", "retry", "Retry", tooltip="Send the prompt again, with another seed"),
    Binding(
        "shift+up,K",
        "pick(-1, 0)",
        "Pick",
        show=False,
        tooltip="Pick an answer above",
        id="previous_turn",
    ),
    Binding(
        "shift+down,J",
        "pick(1, 0)",
        "Pick",
        show=False,
        tooltip="Pick an answer below",
        id="next_turn",
    ),
    Binding(
        "shift+left,H",
        "pick(0, -1)",
        "Pick",
        show=False,
        tooltip="Pick the answer at the left",
        id="previous_column",
    ),
    Binding(
        "shift+right,L",
        "pick(0, 1)",
        "Pick",
        show=False,
        tooltip="Pick the answer at the right",
        id="next_column",
    ),
    Binding("e", "edit", "Edit", tooltip="Edit the prompt in a new branch"),
    Binding(
        "left_square_bracket",
        *("branch(-1)", "Branch"),
        key_display="[",
        show=False,
        tooltip="Previous branch",
        id="previous_branch",
    ),
    Binding(
        "right_square_bracket",
        *("branch(1)", "Branch"),
        key_display="]",
        show=False,
        tooltip="Next branch",
        id="next_branch",
    ),
    Binding("c", "correct", "Correct", tooltip="Correct the answer into a training record"),
    Binding(
        "u",
        "undo_correction",
        "Undo",
        show=False,
        tooltip="Take the latest correction out of the training set",
    ),
    Binding("y", "copy", "Copy", tooltip="Copy the answer"),
    Binding("g", "thinking", "Thinking", show=False, tooltip="Show or fold the thinking"),
    Binding("v", "evaluate", "Evaluate", tooltip="Base against adapter on held-out records"),
    Binding("x", "export", "Export", tooltip="Save the conversation as training records"),
    Binding("h", "reopen", "History", tooltip="Reopen a past conversation", id="history"),
    Binding("ctrl+l", "clear", "Clear", tooltip="Start a new conversation"),
    Binding(
        "ctrl+up,k",
        "scroll_conversation(-1)",
        "Scroll up",
        show=False,
        id="scroll_up",
    ),
    Binding(
        "ctrl+down,j",
        "scroll_conversation(1)",
        "Scroll down",
        show=False,
        id="scroll_down",
    ),
]
