"""What the pages say can be done as they say it: commands, keys, recipe keys, files and links."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from textual.app import App
from textual.binding import Binding
from textual.widgets import Input, TextArea

from mlxft import recipe as recipes
from mlxft.comparison.columns import COLUMNS
from mlxft.export.types import GGUF_TYPES
from mlxft.recipe import PARAMETERS
from mlxft.recipe.presets import PRESETS
from mlxft.recipe.yaml_text import parse_yaml
from mlxft.runs import events
from mlxft.text import figures
from mlxft.watching import notifications
from mlxft_tui import keymap
from mlxft_tui.cli import parser
from mlxft_tui.cli.estimate import estimate_recipe
from mlxft_tui.frame.keys import APP_BINDINGS
from support.pages import ROOT, Code, Page, commands, pages

PAGES = {page.name: page for page in pages()}


def load(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def exit_status(words: Sequence[str]) -> object:
    """What parsing a command line ends with; 0 where it is taken."""
    try:
        parser.parse(words)
    except SystemExit as ending:
        return ending.code
    return 0


RENDER = load(ROOT / "docs" / "render.py")
WRITTEN = [name for name in PAGES if name.removeprefix("docs/") not in RENDER.PAGES]
"""Pages that no script makes."""


class TestREADME:
    def test_it_is_short(self) -> None:
        text = PAGES["README.md"].text
        assert len(text.splitlines()) <= 120
        assert len(text.encode()) <= 9 * 1024

    def test_it_leads_to_every_page(self) -> None:
        linked = {target.partition("#")[0] for _, target in PAGES["README.md"].links}
        missing = {name for name in PAGES if name.startswith("docs/")} - linked
        assert not missing


class TestGenerated:
    @pytest.mark.parametrize("name", RENDER.PAGES)
    def test_a_page_is_what_the_code_makes_of_it(self, name: str) -> None:
        assert PAGES[f"docs/{name}"].text == RENDER.PAGES[name](), "run make docs"


class TestCommands:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            pytest.param(*each, id=f"{each[0].place} {each[0].text}")
            for each in commands("mlxft-tui")
        ],
    )
    def test_the_command_line_takes_it(
        self,
        code: Code,
        words: list[str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for folder in ("my-project", "support"):
            (tmp_path / folder).mkdir()
        assert exit_status(words) == 0, f"{code.place}: {capsys.readouterr().err}"

    @pytest.mark.parametrize("name", parser.build()[1])
    def test_the_page_of_commands_has_every_option(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            parser.parse([name, "--help"])
        usage = capsys.readouterr().out.partition("\n\n")[0]
        options = set(re.findall(r"--[a-z-]+", usage))
        section = next(part for part in _sections(PAGES["docs/cli.md"]) if f"`{name}`" in part[:40])
        assert options - set(re.findall(r"--[a-z-]+", section)) == set()

    def test_the_page_of_commands_has_every_variable(self) -> None:
        sources = "".join(path.read_text() for path in (ROOT / "core").rglob("*.py"))
        used = set(re.findall(r"\bMLXFT_[A-Z]+", sources))
        assert used - set(re.findall(r"MLXFT_[A-Z]+", PAGES["docs/cli.md"].text)) == set()

    @pytest.mark.parametrize(
        ("code", "words"), [pytest.param(*each, id=each[0].place) for each in commands("make")]
    )
    def test_a_make_target_exists(self, code: Code, words: list[str]) -> None:
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [each for each in words if "=" not in each and each not in targets] == []

    @pytest.mark.parametrize(
        ("code", "words"), [pytest.param(*each, id=each[0].place) for each in commands("python")]
    )
    def test_a_script_exists(self, code: Code, words: list[str]) -> None:
        if words[0].endswith(".py"):
            assert (ROOT / words[0]).is_file(), code.place


def _sections(page: Page) -> list[str]:
    return page.text.split("\n## ")[1:]


class TestKeys:
    ANYWHERE: frozenset[str] = frozenset(
        key
        for each in (*APP_BINDINGS, *Binding.make_bindings(App.BINDINGS))
        for key in RENDER.keys_of(each)
    )
    WRITING = frozenset(
        key
        for kind in (Input, TextArea)
        for each in Binding.make_bindings(kind.BINDINGS)
        for key in RENDER.keys_of(each)
    )
    SHARED = frozenset(
        {App.COMMAND_PALETTE_BINDING, *RENDER.screen_keys("frame"), *RENDER.screen_keys("widgets")}
    )

    @pytest.mark.parametrize("name", WRITTEN)
    def test_every_key_acts_on_the_screen_that_the_text_is_about(self, name: str) -> None:
        places = ("data", "recipe", "train", "chat", "runs", "compare", "models")
        known = {each: RENDER.screen_keys(each) for each in places}
        everywhere = self.ANYWHERE | self.WRITING | self.SHARED
        wrong = [
            f"{each.place}: `{each.text}` is no key of {', '.join(each.screens) or 'all screens'}"
            for each in PAGES[name].code
            if each.is_key
            and each.text not in everywhere
            and not any(each.text in known[screen] for screen in each.screens)
        ]
        assert not wrong, "\n".join(wrong)

    @pytest.mark.parametrize(
        ("name", "text"), [(page.name, text) for page in pages() for _, text in page.fences("toml")]
    )
    def test_a_file_of_settings_is_valid(self, name: str, text: str, tmp_path: Path) -> None:
        file = tmp_path / "settings.toml"
        file.write_text(text)
        load_settings = notifications.load if name == "docs/watching.md" else keymap.load
        assert load_settings(file)


class TestRecipes:
    @pytest.mark.parametrize(
        ("place", "text"),
        [pytest.param(*each, id=each[0]) for page in pages() for each in page.fences("yaml")],
    )
    def test_a_block_is_a_recipe(self, place: str, text: str) -> None:
        recipes.from_mapping(parse_yaml(text, place))

    @pytest.mark.parametrize("name", PAGES)
    def test_a_line_of_one_is_a_recipes(self, name: str) -> None:
        lines = [each for each in PAGES[name].code if re.fullmatch(r"[a-z_.]+: \S.*", each.text)]
        for each in lines:
            name = each.text.partition(":")[0]
            if not each.language and name not in RECORD_KEYS | TEMPLATE_VARIABLES:
                recipes.apply_settings(recipes.Recipe(), [each.text.replace(": ", "=", 1)])

    def test_what_a_resume_keeps_fixed_is_listed(self) -> None:
        fixed = {each.key for each in PARAMETERS.values() if each.declared.resume == "fixed"}
        assert fixed - {each.text for each in PAGES["docs/training.md"].code} == set()

    @pytest.mark.parametrize("name", WRITTEN)
    def test_every_name_is_a_parameter_or_another_known_one(self, name: str) -> None:
        wrong = [
            f"{each.place}: {each.text}"
            for each in PAGES[name].code
            if not each.language
            and re.fullmatch(
                r"[a-z0-9]+(_[a-z0-9]+)+|(lora_parameters|lr_schedule)\.\w+", each.text
            )
            and each.text not in KNOWN
        ]
        assert not wrong, "\n".join(wrong)


def _names() -> Iterator[str]:
    """Every name with an underline that a page may use: parameters, events, and those of files."""
    yield from PARAMETERS
    yield from (each.name for each in PARAMETERS.values())
    yield from (each.mlx_lm_key for each in PARAMETERS.values())
    yield from (choice for each in PARAMETERS.values() for choice in each.choices)
    yield from ("lora_parameters", "lr_schedule")
    yield from COLUMNS
    for kind in msgspec.inspect.type_info(events.AnyEvent).types:  # type: ignore[union-attr]
        yield str(kind.tag)
        yield from (field.encode_name for field in kind.fields)
    yield from TEMPLATE_VARIABLES
    yield from ("tool_use", "function_call", "mlx_lm", "save_to_disk", "wont_fit", "may_fit")
    yield "total_if_scores_are_kept"
    yield from ("hf_dataset", "prompt_feature", "test_batches")  # mlx-lm's
    yield from ("merge_and_unload", "modules_to_save")  # PEFT's
    yield from GGUF_TYPES
    yield from (path.stem for path in (ROOT / "core").rglob("*.py"))
    for path in (ROOT / "benchmarks").glob("*.py"):
        yield from re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)+", path.read_text())


TEMPLATE_VARIABLES = frozenset(("enable_thinking", "reasoning_effort", "date_string"))
"""Variables of well-known chat templates."""

RECORD_KEYS = frozenset(
    node.value
    for path in (ROOT / "core" / "mlxft" / "data").glob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
) - set(PARAMETERS)
"""Texts in the code that reads records, the keys of records among them."""

KNOWN = frozenset(_names()) | RECORD_KEYS


class TestMemory:
    LLAMA_3B = """{
        "model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192,
        "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
        "head_dim": 128, "vocab_size": 128256, "tie_word_embeddings": true,
        "quantization": {"group_size": 64, "bits": 4}
    }"""

    def test_the_quickstarts_figures_are_the_estimators(self, tmp_path: Path) -> None:
        page = PAGES["docs/quickstart.md"]
        (tmp_path / "config.json").write_text(self.LLAMA_3B)
        recipe = recipes.from_mapping(parse_yaml(next(page.fences("yaml"))[1], page.name))
        for checkpointed in (True, False):
            asked = recipes.replace(recipe, "grad_checkpoint", checkpointed)
            estimate, _ = estimate_recipe(asked, str(tmp_path), "metal:18GB")
            assert f"{figures.gigabytes(estimate.total)} " in page.text
        assert f"{figures.gigabytes(estimate.limit or 0)} GB" in page.text

    def test_every_preset_is_named(self) -> None:
        text = PAGES["docs/memory-and-time.md"].text
        assert [each.name for each in PRESETS if f"*{each.name}*" not in text] == []


class TestArchitecture:
    @pytest.mark.parametrize("package", ["mlxft", "mlxft_tui"])
    def test_every_layer_is_described(self, package: str) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        contracts = project["tool"]["importlinter"]["contracts"]
        (layers,) = (each["layers"] for each in contracts if each.get("containers") == [package])
        named = {each.text for each in PAGES["ARCHITECTURE.md"].code}
        assert {name for layer in layers for name in re.split(r" [|:] ", layer)} - named == set()


class TestMessages:
    def test_every_quoted_message_is_one_of_the_program(self) -> None:
        page = PAGES["docs/troubleshooting.md"]
        quoted = re.findall(r"“([^”]+)”", page.text)
        texts = list(_texts())
        wrong = [
            each
            for each in quoted
            if not any(all(part.strip() in text for part in each.split("…")) for text in texts)
        ]
        assert quoted
        assert not wrong


def _texts() -> Iterator[str]:
    """Every text of the program; what a message is filled in with is left out."""
    for folder in ("core", "tui"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    parts = (each.value for each in node.values if isinstance(each, ast.Constant))
                    yield "…".join(map(str, parts))


class TestFilesAndLinks:
    @pytest.mark.parametrize("name", PAGES)
    def test_every_link_leads_somewhere(self, name: str) -> None:
        page, broken = PAGES[name], []
        for line, target in page.links:
            if re.match(r"https?:|mailto:", target):
                continue
            file, _, fragment = target.partition("#")
            path = (page.path.parent / file).resolve() if file else page.path
            found = path.is_file() or path.is_dir()
            if found and fragment and path.suffix == ".md":
                found = fragment in Page(path).anchors
            if not found:
                broken.append(f"{name}:{line}: {target}")
        assert not broken, "\n".join(broken)

    @pytest.mark.parametrize(
        "file", sorted((ROOT / "docs").glob("*.svg")), ids=lambda file: file.name
    )
    def test_a_picture_shows_no_path_of_the_machine_it_was_made_on(self, file: Path) -> None:
        picture = file.read_text(encoding="utf-8")
        assert not re.search(r">[^<]*/(?:tmp|root|home|Users|var)/", picture)

    @pytest.mark.parametrize("name", PAGES)
    def test_every_source_file_exists(self, name: str) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        files = ["/" + each for each in listed.stdout.split()]
        wrong = [
            f"{each.place}: {each.text}"
            for each in PAGES[name].code
            if not each.language
            and re.fullmatch(r"[\w/]+\.py", each.text)
            and not any(file.endswith("/" + each.text) for file in files)
        ]
        assert not wrong, "\n".join(wrong)
