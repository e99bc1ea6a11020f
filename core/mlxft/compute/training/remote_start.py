"""How a rank's process is started on another machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mlx._distributed_utils.launch import RemoteProcess


def start_script(variables: Mapping[str, str], command: Sequence[str]) -> str:
    """The shell script that runs a command with these variables, as mlx.launch does."""
    make: Callable[..., str] = RemoteProcess.make_launch_script
    pairs = [f"{name}={value}" for name, value in variables.items()]
    # The rank itself is in the command, and MLX's own variables follow once all ranks are there.
    return make(0, None, None, {}, pairs, list(command), True)
