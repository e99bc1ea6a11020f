"""What of a conversation is missing in its rendered text."""

from __future__ import annotations

from typing import Any

import pytest

from mlxft.data.rendering import losses

ASKED = {"role": "user", "content": "Dim lamp 3."}
ANSWERED = {"role": "assistant", "content": "It is dimmed."}
LISTED = {"role": "assistant", "content": "Lamps:\r\n\r\n  1\n\n\n  3"}
CALL = {"type": "function", "function": {"name": "dim", "arguments": {"lamp": 3, "to": 'a "bit"'}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"dimmed": true}'}
THINKING = {**ANSWERED, "reasoning_content": "Lamp 3 exists."}
TAGGED = {"role": "assistant", "content": "<think>\nLamp 3 exists.\n</think>\n\nIt is dimmed."}
TOOLS = [{"type": "function", "function": {"name": "dim", "description": "Dims a lamp."}}]


class TestLosses:
    @pytest.mark.parametrize(
        ("messages", "tools", "text", "missing"),
        [
            ([ASKED, ANSWERED], None, "U:Dim lamp 3. A:It is dimmed.", set()),
            ([ASKED, ANSWERED], None, "U:Dim lamp 3. A:", {"a message"}),
            ([ASKED, ANSWERED], None, "A:It is dimmed. U:Dim lamp 3.", {"a message"}),
            ([ASKED, ANSWERED], None, "A:It is dimmed.", {"a message"}),
            (
                [{"role": "system", "content": "Be kind."}, ASKED, ANSWERED],
                None,
                "Dim lamp 3. It is dimmed.",
                {"the system message"},
            ),
            (
                [{"role": "system", "content": "Be kind."}, ASKED, ANSWERED],
                None,
                "U:Dim lamp 3. S:Be kind. A:It is dimmed.",
                set(),
            ),
            # As Falcon's template, which removes blank lines.
            ([ASKED, LISTED], None, "Dim lamp 3. A:Lamps:\n  1\n  3", set()),
            ([ASKED, LISTED], None, "Dim lamp 3. A:Lamps:\n1\n3", {"a message"}),
            ([ASKED, CALLING], None, "Dim lamp 3. ", {"the tool calls"}),
            ([ASKED, CALLING], None, "Dim lamp 3. dim(lamp=3, to='a \"bit\"')", set()),
            (
                [ASKED, CALLING],
                None,
                'Dim lamp 3. {"dim": {"lamp": 3, "to": "a \\"bit\\""}}',
                set(),
            ),
            ([ASKED, CALLING], None, "Dim lamp 3. dim(lamp=3)", {"the tool calls"}),
            (
                [ASKED, CALLING, RESULT, ANSWERED],
                None,
                "Dim lamp 3. It is dimmed.",
                {"the tool calls", "a tool result"},
            ),
            ([ASKED, THINKING], None, "Dim lamp 3. It is dimmed.", {"reasoning"}),
            ([ASKED, THINKING], None, "Dim lamp 3. Lamp 3 exists. It is dimmed.", set()),
            ([ASKED, TAGGED], None, "Dim lamp 3. It is dimmed.", {"reasoning"}),
            (
                [ASKED, ANSWERED, {"role": "system", "content": "Be kind."}, ASKED, ANSWERED],
                None,
                "U:Dim lamp 3. A:It is dimmed. U:Be kind. Dim lamp 3. A:It is dimmed.",
                set(),
            ),
            (
                [{"role": "system", "content": "Be kind."}, ASKED, ANSWERED, ASKED, ANSWERED],
                None,
                "Dim lamp 3. It is dimmed. Be kind. Dim lamp 3. It is dimmed.",
                set(),
            ),
            ([ASKED, TAGGED], None, "Dim lamp 3. <t>Lamp 3 exists.</t>It is dimmed.", set()),
            (
                [ASKED, CALLING],
                None,
                "Dim lamp 3. dim({'lamp': 3, 'to': 'a \"bit\"', 'at': 'it\\'s\\ndim'})",
                set(),
            ),
            ([ASKED, ANSWERED], TOOLS, "Dim lamp 3. It is dimmed.", {"the tools"}),
            (
                [ASKED, ANSWERED],
                [{"function": {"name": "dim", "parameters": {"properties": {"lamp_id": {}}}}}],
                "dim() Dim lamp 3. It is dimmed.",
                {"the tools"},
            ),
            ([ASKED, ANSWERED], TOOLS, "dim: Dims a lamp. Dim lamp 3. It is dimmed.", set()),
        ],
    )
    def test_they_are_found(
        self, messages: list[dict[str, Any]], tools: Any, text: str, missing: set[str]
    ) -> None:
        assert losses(messages, tools, text) == missing
