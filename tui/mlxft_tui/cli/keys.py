"""`mlxft-tui keys`: the id of every key, for keys.toml."""

from __future__ import annotations

import json

from mlxft.storage.paths import keys_file


def print_keys(*, as_json: bool) -> int:
    """Print ids, keys and what they do, with the user's own keys. Raises `MlxftError`."""
    from mlxft_tui.keymap import every_key, load

    file = keys_file()
    found = every_key(load(file) if file.exists() else {})
    if as_json:
        rows = [
            {"id": each.id, "keys": each.keys, "explanation": each.explanation} for each in found
        ]
        print(json.dumps(rows))
        return 0
    widest = max(len(each.id) for each in found)
    for each in found:
        print(f"{each.id:<{widest}}  {' '.join(each.keys):<20}  {each.explanation}")
    print(f'\nTo change a key write "ID" = "KEY" into {file}')
    return 0
