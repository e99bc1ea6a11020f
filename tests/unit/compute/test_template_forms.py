"""Templates that need a conversation in another form get it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlxft.compute.tokenization import Tokenizer, load_tokenizer, render_prompt, tokenize
from mlxft.recipe import Recipe
from support.models import make_tiny_model

PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}"
    "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)
NO_TOOLS = (
    "{% for tool in tools %}{{ tool }}{% endfor %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
)
NAMED = (
    "{% for m in messages %}[{{ m.role }}{% if m.role == 'tool' %} "
    "{{ m.name if m.name is defined else raise_exception('no name') }}{% endif %}]"
    "{{ m.content }}{% for call in m.tool_calls %}{{ call.function }}{% endfor %}"
    "<|im_end|>{% endfor %}"
)
BY_ID = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for call in m.tool_calls %}"
    "<{{ call.id }}>{{ call.function.arguments }}{% endfor %}<|im_end|>{% endfor %}"
)
CALL = {"type": "function", "function": {"name": "dim", "arguments": {"lamp": 3}}}
LAMP = [{"role": "user", "content": "On?"}, {"role": "assistant", "content": "The lamp is on."}]
CALLS = [
    {"role": "user", "content": "Dim lamp 3."},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "done"},
    {"role": "assistant", "content": "It is dim."},
]


def tokenizer_of(folder: Path, template: str) -> Tokenizer:
    return load_tokenizer(make_tiny_model(folder, chat_template=template), False)


class TestForms:
    @pytest.mark.parametrize(
        ("template", "messages", "written"),
        [
            (PARTS, LAMP, "[user]On?<|im_end|>"),
            (NO_TOOLS, LAMP, "[user]On?<|im_end|>"),
            (NAMED, CALLS, "[tool dim]done"),
            (BY_ID, CALLS, "<functions.dim:0>{'lamp': 3}"),
        ],
        ids=["parts", "tools that are none", "results with names", "calls by id"],
    )
    def test_it_is_trained_whole(
        self, tmp_path: Path, template: str, messages: list[dict[str, Any]], written: str
    ) -> None:
        (record,) = tokenize(tokenizer_of(tmp_path, template), {"messages": messages}, Recipe())
        assert written in (record.text or "")
        assert not record.losses

    def test_parts_are_not_written_as_they_are(self, tmp_path: Path) -> None:
        """A template for texts that cuts out reasoning doesn't find it in a list."""
        template = (
            "{% for m in messages %}{% if '</think>' in m.content %}"
            "{{ m.content.split('</think>')[1] }}{% else %}{{ m.content }}{% endif %}"
            "<|im_end|>{% endfor %}"
        )
        fields = {"prompt": "Dim it.", "completion": "<think>Which?</think>It is dim."}
        (record,) = tokenize(tokenizer_of(tmp_path, template), fields, Recipe())
        assert record.text == "Dim it.<|im_end|>It is dim.<|im_end|>"
        assert record.losses == {"reasoning"}

    @pytest.mark.parametrize(
        ("template", "prompt"),
        [
            (PARTS, "[user]Dim it.<|im_end|>"),
            (NO_TOOLS, "[user]Dim it.<|im_end|>"),
            ("{% for m in messages %}{{ m.content }}|{% endfor %}", "Dim it.|"),
            ("{% for m in messages %}{{ m.role }}|{% endfor %}", "user|"),
        ],
        ids=["parts", "tools that are none", "texts", "no content at all"],
    )
    def test_a_chat_gives_parts_only_where_they_are_demanded(
        self, tmp_path: Path, template: str, prompt: str
    ) -> None:
        tokenizer = tokenizer_of(tmp_path, template)
        asked = [{"role": "user", "content": "Dim it."}]
        assert tokenizer.decode(list(render_prompt(tokenizer, asked))) == prompt
