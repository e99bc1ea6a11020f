"""`mlxft-tui quantize`: a model with other weights, and what that costs on the user's own data."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from mlxft import recipe as recipes
from mlxft.engine.protocol import AnyReply, OpenModel, QuantizeFinished, QuantizeModel
from mlxft.export.place import free_bytes, refuse_full, refuse_taken
from mlxft.export.quantization import Quantization, expected_size
from mlxft.memory.local_config import model_folder
from mlxft.text import figures, path_json
from mlxft.text.printable import printable
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session


def quantize(session: Session, arguments: argparse.Namespace) -> int:
    """Say what will be written, write it, and print what was measured. Raises `MlxftError`."""
    wanted = Quantization(
        bits=arguments.bits,
        group_size=arguments.group_size,
        mode=arguments.mode,
        recipe=arguments.recipe,
        dequantize=arguments.dequantize,
    )
    wanted.refuse_contradictions()
    recipe = recipes.replace(session.saved_recipe(), "model", arguments.model)
    recipe = recipes.replace(recipe, "trust_remote_code", arguments.trust_remote_code)
    if arguments.data:
        recipe = recipes.replace(recipe, "data", arguments.data)
    out = Path(os.path.normpath(session.folder / arguments.out.expanduser()))
    refuse_taken(out)
    _say_size(model_folder(arguments.model, session.folder), out, wanted)
    data = session.data(recipe)
    command = QuantizeModel(
        recipe=recipe,
        out=str(out),
        quantization=wanted,
        data=str(data.resolve()) if data.exists() else None,
    )

    def take(reply: AnyReply) -> None:
        if isinstance(reply, QuantizeFinished) and arguments.json:
            print(path_json.encode(reply.quantized).decode())
        elif isinstance(reply, QuantizeFinished):
            lines = (f"written to {reply.quantized.folder}", *reply.quantized.lines)
            print("\n".join(printable(each) for each in lines))

    opening = OpenModel(arguments.model, arguments.trust_remote_code)
    return run_on_service(session, opening, command, take, in_lines=True)


def _say_size(model: Path, out: Path, wanted: Quantization) -> None:
    """Say on stderr how large the files will be. Raises `StorageError` if they don't fit."""
    needed, free = expected_size(model, wanted), free_bytes(out)
    refuse_full(out, needed, free)
    much = f"about {figures.size(needed)}" if needed is not None else "the model"
    print(
        printable(f"writes {much} to {out} ({wanted.title}); {figures.size(free)} free"),
        file=sys.stderr,
        flush=True,
    )
