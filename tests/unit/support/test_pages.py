"""The pages' parser, on which their checks rely."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.pages import Code, Page

TEXT = """\
# Steer a run: `pause`, `stop`
Press `q`.
<!-- keys: train chat -->
Then `p`, or ``x`y``.

```sh
mlxft-tui pause RUN  # now
```

1. A recipe ([see](data.md#files), `[not](a-link)`):

   ```yaml
   iters: 7
   ```
"""


@pytest.fixture
def page(tmp_path: Path) -> Page:
    path = tmp_path / "page.md"
    path.write_text(TEXT)
    return Page(path)


def test_code_has_its_place_and_the_screens_of_the_text_around_it(page: Page) -> None:
    spans = [(each.text, each.line, each.screens) for each in page.code if not each.language]
    assert spans[2:5] == [("q", 2, ()), ("p", 4, ("train", "chat")), ("x`y", 4, ("train", "chat"))]


def test_lines_of_a_fence_have_its_language(page: Page) -> None:
    fenced = [(each.text, each.language) for each in page.code if each.language]
    assert fenced == [("mlxft-tui pause RUN  # now", "sh"), ("iters: 7", "yaml")]


def test_a_block_is_taken_without_its_indent(page: Page) -> None:
    assert list(page.fences("yaml")) == [("page.md:12", "iters: 7")]


def test_links_and_anchors(page: Page) -> None:
    assert list(page.links) == [(10, "data.md#files")]
    assert page.anchors == {"steer-a-run-pause-stop"}


@pytest.mark.parametrize("key", ["p", "[", "←", "esc", "ctrl+n", "ctrl+↑", "⇧←", "F5", "pgup"])
def test_a_key_is_known_by_its_form(key: str) -> None:
    assert Code("page.md", 1, key).is_key


@pytest.mark.parametrize("text", ["iters", "ctrl", "make test", "F55x", "a.py"])
def test_other_code_is_no_key(text: str) -> None:
    assert not Code("page.md", 1, text).is_key
