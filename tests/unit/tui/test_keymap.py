"""keys.toml: ids, keys and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxft.errors import MlxftError
from mlxft.storage.paths import keys_file
from mlxft_tui.cli.main import main
from mlxft_tui.keymap import Keymap, every_key, load


def loaded(file: Path, text: str) -> Keymap:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize(
    "text",
    ['"train.pause" = "f9"', 'train.pause = "f9"', '[train]\npause = ["f9"]'],
)
def test_an_entry_is_an_id_and_its_key(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path / "keys.toml", text) == {"train.pause": "f9"}


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ('"["', "left_square_bracket"),
        ('","', "comma"),
        ('"ctrl+k"', "ctrl+k"),
        ('"ctrl+shift+f5"', "ctrl+shift+f5"),
        ('"é"', "é"),
        ('["space", "+"]', "space,plus"),
        ('"shift+a"', "A"),
    ],
)
def test_keys_are_written_as_characters_or_names(tmp_path: Path, written: str, key: str) -> None:
    assert loaded(tmp_path / "keys.toml", f'"confirm.yes" = {written}') == {"confirm.yes": key}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('"train.puase" = "f9"', "train.puase is not an id of a key; did you mean train.pause?"),
        ('"qqq" = "f9"', "qqq is not an id of a key; mlxft-tui keys lists them."),
        ('"train.pause" = "spcae"', "train.pause = 'spcae' is not a key; did you mean space?"),
        ('"train.pause" = "ctlr+k"', "train.pause = 'ctlr+k' is not a key; write it like"),
        ('"train.pause" = "ctrl+ctrl+k"', "train.pause = 'ctrl+ctrl+k' is not a key; write it"),
        ('"app.quit" = "shift+u"', "app.quit = 'U' is also the key of data.redo;"),
        ('"chat.send" = "é"', "chat.send = 'é' couldn't be typed into a text field any more;"),
        ('"chat.new_line" = ";"', "chat.new_line = ';' couldn't be typed"),
        ('"split.make" = "space"', "split.make = 'space' couldn't be typed"),
        ('"form.submit" = ["f5", "x"]', "form.submit = 'x' couldn't be typed"),
        ('"train.pause" = 5', "train.pause = 5 is not a key; write it like"),
        ('"train.pause" = []', "train.pause has no key"),
        ("train.pause", "the keys can't be read"),
        ('"train.pause" = "space"', "train.pause = 'space' is also the key of train.freeze;"),
        ('"train.pause" = ","', "train.pause = ',' is also the key of train.smooth_less;"),
        ('"train.pause" = "q"', "train.pause = 'q' is also the key of app.quit;"),
        ('"app.quit" = "U"', "app.quit = 'U' is also the key of data.redo;"),
        ('"data.search" = "k"', "data.search = 'k' is also the key of list.up;"),
        ('"list.down" = "s"', "list.down = 's' is also the key of data.statistics;"),
        ('"app.quit_anywhere" = "w"', "app.quit_anywhere = 'w' couldn't be typed"),
        ('"problems.choose" = "k"', "problems.choose = 'k' is also the key of list.up;"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_entry(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "keys.toml"
    with pytest.raises(MlxftError) as caught:
        loaded(file, text)
    assert str(caught.value).startswith(f"{file}: ")
    assert sentence in str(caught.value)


def test_a_folder_in_its_place_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    keys_file().mkdir(parents=True)
    assert main(["keys"]) == 1
    assert f"{keys_file()}: the keys can't be read" in capsys.readouterr().err


def test_two_keys_can_be_swapped(tmp_path: Path) -> None:
    text = '"train.pause" = "space"\n"train.freeze" = "p"'
    assert loaded(tmp_path / "keys.toml", text) == {"train.pause": "space", "train.freeze": "p"}


def test_a_key_of_a_dialog_may_be_one_of_the_screen(tmp_path: Path) -> None:
    assert loaded(tmp_path / "keys.toml", '"confirm.yes" = "t"') == {"confirm.yes": "t"}


def test_bindings_of_one_id_share_their_keys_in_every_class() -> None:
    keys = {each.id: each.keys for each in every_key({})}
    assert keys["train.pause"] == ("p",)
    assert keys["chat.send"] == ("enter",)
    assert keys["go.train"] == ("3", "f3")
    assert all("." in name and found for name, found in keys.items())


class TestKeysCommand:
    def test_it_lists_each_id_with_the_users_keys(self, capsys: pytest.CaptureFixture[str]) -> None:
        loaded(keys_file(), '"train.pause" = ["f9", "["]\n"train.lower_rate" = "f8"')
        assert main(["keys"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["train.pause", "f9", "["] in [line[:3] for line in lines]
        assert ["app.quit", "q"] in [line[:2] for line in lines]

    def test_a_mistake_is_reported(self, capsys: pytest.CaptureFixture[str]) -> None:
        keys_file().parent.mkdir()
        keys_file().write_text('"train.puase" = "f9"')
        assert main(["keys"]) == 1
        assert "did you mean train.pause?" in capsys.readouterr().err
