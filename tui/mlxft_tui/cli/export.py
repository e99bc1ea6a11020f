"""`mlxft-tui export`: a run's adapter, or the model fused with it, in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlxft.engine.protocol import AnyReply, ExportFinished, OpenModel
from mlxft.export.model_card import loadable, loading_lines
from mlxft.export.types import Choice, Exported, Form, Quantize
from mlxft.text import path_json
from mlxft.text.printable import printable
from mlxft_tui.cli.service import refuse_unusable, run_on_service
from mlxft_tui.session import Session

if TYPE_CHECKING:
    from mlxft.adapters.found import FoundAdapter


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
    place = out or Path(f"{Path(adapter.name).name}-{form}")
    choice = Choice(form=form, out=place, checkpoint=checkpoint, quantize=quantize)
    refuse_unusable(session, adapter, wanted)
    command = session.export_command(adapter, choice, wanted)

    def take(reply: AnyReply) -> None:
        if isinstance(reply, ExportFinished) and as_json:
            print(path_json.encode(reply.exported).decode())
        elif isinstance(reply, ExportFinished):
            print("\n".join(_lines(reply.exported, loadable(wanted))))

    opening = OpenModel(wanted, recipe.trust_remote_code)
    return run_on_service(session, opening, command, take, in_lines=True)


def _lines(exported: Exported, model: str) -> list[str]:
    lines = [exported.summary, *exported.proof.lines]
    lines += [each for each in (exported.note, exported.warning) if each]
    return [
        printable(each)
        for each in (
            *lines,
            "to load it, in that folder:",
            *(f"  {each}" for each in loading_lines(exported, model)),
        )
    ]
