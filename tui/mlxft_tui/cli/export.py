"""`mlxft-tui export`: a run's adapter, or the model fused with it, in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlxft.engine.protocol import AnyReply, Export, ExportFinished, OpenModel
from mlxft.errors import RunError
from mlxft.export.model_card import Origin
from mlxft.export.place import refuse_taken
from mlxft.export.types import Exported, Form, Quantize
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run
from mlxft.text import figures, path_json
from mlxft.text.printable import printable
from mlxft_tui.cli.service import run_on_service
from mlxft_tui.session import Session

if TYPE_CHECKING:
    from mlxft.adapters.found import FoundAdapter

BEST = "best"
"""The checkpoint with the lowest validation loss."""


def export(
    session: Session,
    adapter: FoundAdapter,
    *,
    form: Form,
    checkpoint: str | None,
    out: Path | None,
    quantize: Quantize,
    model: str | None,
    as_json: bool,
) -> int:
    """Export, and print what was measured. Raises `MlxftError`."""
    recipe = adapter.recipe
    wanted = model or recipe.model
    session.refuse_unusable_adapter(adapter, wanted)
    place = session.folder.absolute() / (out or f"{Path(adapter.name).name}-{form}")
    refuse_taken(place)
    command = Export(
        str(_weights(adapter, checkpoint)),
        recipe,
        form,
        str(place),
        _origin(adapter, checkpoint),
        str(session.data(recipe).resolve()) if adapter.is_run else None,
        quantize,
    )

    def take(reply: AnyReply) -> None:
        if isinstance(reply, ExportFinished) and as_json:
            print(path_json.encode(reply.exported).decode())
        elif isinstance(reply, ExportFinished):
            print("\n".join(_lines(reply.exported)))

    opening = OpenModel(wanted, recipe.trust_remote_code)
    return run_on_service(session, opening, command, take, in_lines=True)


def _lines(exported: Exported) -> list[str]:
    size = sum(size for _, size in exported.files)
    lines = [
        f"exported to {printable(exported.folder)}: {len(exported.files)} files, "
        f"{figures.gigabytes(size)} GB",
        *exported.proof.lines,
    ]
    return [*lines, exported.warning] if exported.warning else lines


def _weights(adapter: FoundAdapter, checkpoint: str | None) -> Path:
    """The adapter's folder, or the file of one of its checkpoints. Raises `RunError`."""
    if checkpoint is None:
        return adapter.path
    if not adapter.path.is_dir():
        raise RunError(f"{adapter.name}: --checkpoint needs a run; this is a file already.")
    run = RunDirectory(adapter.path)
    if checkpoint == BEST:
        file = run.best_adapter_file
    elif checkpoint.isdecimal():
        file = run.numbered_adapter_file(int(checkpoint))
    else:
        raise RunError(f"--checkpoint is {checkpoint}; it must be a step, or {BEST}.")
    if not file.is_file():
        saved = sorted(int(each.name[:7]) for each in run.path.glob("[0-9]*_adapters.safetensors"))
        listed = ", ".join(map(str, saved)) or "none"
        raise RunError(f"{file}: this checkpoint doesn't exist; saved are those of steps {listed}.")
    return file


def _origin(adapter: FoundAdapter, checkpoint: str | None) -> Origin:
    if not adapter.is_run or not adapter.path.is_dir():
        return Origin(run=adapter.name)
    view = read_run(RunDirectory(adapter.path)).view
    steps = int(checkpoint) if checkpoint and checkpoint.isdecimal() else None
    if checkpoint is None and view is not None:
        steps = view.step
    validation = tuple((each.step, each.loss) for each in view.validations) if view else ()
    return Origin(run=adapter.name, steps=steps, validation=validation)
