"""A command under ``mlx.launch``, which starts it on every rank of a recipe's hosts."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Final

from mlxft.hosts import Host, hosts_of
from mlxft.hosts.named import is_hostfile
from mlxft.recipe.yaml_text import write_yaml
from mlxft.storage.paths import expanded

CONFIG: Final = "mlx_lm-config.yaml"
HOSTFILE: Final = "mlx_lm-hosts.json"

_PORT: Final = "$((20000 + $(date +%s) % 12000))"
"""The first port of the ranks, another one at each start.

mlx.launch's own is always the same, and MLX shares it: a rank that an earlier start has left, or
one of another start, would be taken for one of these, and both would wait for the rest for ever.
"""


def launched(hosts: int | str, words: Sequence[str], config: object) -> str:
    """Shell commands that run a program on every rank, with the config in a file if there is one.

    mlx.launch hands its standard input to the ranks and never ends theirs, so a config can't be
    read from there. Raises `RecipeError` for hosts that aren't valid.
    """
    program, *arguments = words
    if config:
        arguments += ["--config", CONFIG]
    shell = [_file(CONFIG, write_yaml(config), "YAML")] if config else []
    if isinstance(hosts, int):
        where, started = ["-n", str(hosts)], shlex.quote(program)
    else:
        # Another machine's shell finds no program of this environment by its name.
        started = f'"$(command -v {shlex.quote(program)})"'
        where = ["--hostfile", HOSTFILE]
        if is_hostfile(hosts):
            where = ["--hostfile", str(expanded(hosts))]
        else:
            listed = json.dumps([_entry(each) for each in hosts_of(hosts).ranks])
            shell.append(_file(HOSTFILE, f"{listed}\n", "JSON"))
    launch = f"mlx.launch {shlex.join(where)} -p {_PORT} -- {started} {shlex.join(arguments)}"
    return "".join([*shell, launch])


def _entry(host: Host) -> dict[str, object]:
    return {"ssh": host.name, "ips": list(host.addresses)}


def _file(name: str, text: str, end: str) -> str:
    return f"cat >{name} <<'{end}'\n{text}{end}\n"
