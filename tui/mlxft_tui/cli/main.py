"""The command line. A command's modules are imported only when it runs, to start quickly."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlxft.errors import MlxftError
from mlxft_tui.cli.parser import parse

if TYPE_CHECKING:
    from mlxft.adapters.found import FoundAdapter
    from mlxft.recipe import ChatTemplate, Recipe
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.session import Session

SMALLEST_TERMINAL = (40, 12)
"""Columns and rows below which nothing useful can be shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a user's mistake is printed as one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Characters that the terminal's encoding lacks become question marks.
            stream.reconfigure(errors="replace")
    if "_ARGCOMPLETE" in os.environ:
        from mlxft_tui.cli.completion import complete

        complete()
    try:
        arguments = parse(list(sys.argv[1:] if argv is None else argv))
        return COMMANDS[arguments.command](arguments)
    except MlxftError as error:
        return _print_error(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; point stdout elsewhere so that Python's final flush
        # doesn't fail. A run keeps running.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        from mlxft_tui.terminal import crash

        print(crash.record(error), file=sys.stderr)
        return 1


def _print_error(message: str) -> int:
    from mlxft.text.printable import printable_line

    print(f"mlxft-tui: {printable_line(message)}", file=sys.stderr)
    return 1


# Commands


def _open(arguments: argparse.Namespace) -> int:
    if not _has_terminal():
        raise MlxftError(
            "The app needs a terminal; without one use train, runs, attach or chat "
            "(mlxft-tui --help)."
        )
    return _app(arguments, arguments.folder)


def _demo(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.demo import announce_download, demo_recipe

    recipe = demo_recipe(arguments.iters, preferences=arguments.preferences)
    if _has_terminal() and not (arguments.headless or arguments.json):
        return _app(arguments, Path.cwd(), recipe)
    from mlxft.engine.machine import refuse_if_training
    from mlxft_tui.cli import runs

    session = _session(Path.cwd())
    refuse_if_training(session.adapters)
    announce_download()
    return runs.train(session, recipe, as_json=arguments.json, detach=False)


def _train(arguments: argparse.Namespace) -> int:
    from mlxft import recipe as recipes
    from mlxft_tui.cli import runs

    recipe = recipes.load(arguments.recipe, arguments.set)
    if arguments.name is not None:
        recipe = recipes.replace(recipe, "run_name", arguments.name)
    session = _session(arguments.dir)
    if arguments.recipe.is_file():
        for note in recipes.differences_from_mlx_lm(arguments.recipe, session.adapters):
            print(note, file=sys.stderr)
    return runs.train(session, recipe, as_json=arguments.json, detach=arguments.detach)


def _estimate(arguments: argparse.Namespace) -> int:
    from mlxft import recipe as recipes
    from mlxft_tui.cli.estimate import estimate_recipe, expected_time, print_estimate

    recipe = recipes.load(arguments.recipe, arguments.set)
    estimate, standing = estimate_recipe(recipe, arguments.model, arguments.device)
    time = expected_time(_session(arguments.dir), recipe, arguments.model, arguments.device)
    return print_estimate(estimate, standing, time, as_json=arguments.json)


def _models(arguments: argparse.Namespace) -> int:
    from mlxft import recipe as recipes
    from mlxft_tui.cli.models import list_models

    session = _session(arguments.dir)
    recipe = recipes.load(arguments.recipe) if arguments.recipe else session.saved_recipe()
    return list_models(
        session,
        recipe,
        text=arguments.search,
        order=arguments.sort,
        limit=arguments.limit,
        as_json=arguments.json,
    )


def _download(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.models import download

    return download(arguments.repository, as_json=arguments.json)


def _upload(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.upload import upload_folder

    return upload_folder(
        arguments.exported.expanduser(),
        arguments.repo,
        private=arguments.private,
        confirmed=arguments.yes,
        with_secrets=arguments.with_secrets,
        as_json=arguments.json,
    )


def _runs(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.run_table import ACTIONS

    return ACTIONS[arguments.action or "list"](_session(arguments.dir), arguments)


def _queue(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.queue import ACTIONS

    return ACTIONS[arguments.action](arguments)


def _sweep(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.sweep import sweep

    session = _session(arguments.dir)
    return sweep(session, arguments.sweep, dry_run=arguments.dry_run, as_json=arguments.json)


def _sweep_report(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.sweep import report

    session = _session(arguments.dir)
    return report(session, arguments.name, as_json=arguments.json, as_csv=arguments.csv)


def _attach(arguments: argparse.Namespace) -> int:
    directory = _run_directory(arguments, arguments.name)
    if _has_terminal() and not arguments.json:
        return _app(arguments, arguments.dir, follow=directory)
    from mlxft_tui.cli import runs

    return runs.attach(directory, as_json=arguments.json)


def _stop(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.stop(_run_directory(arguments, arguments.name))


def _pause(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.pause(_run_directory(arguments, arguments.name))


def _resume(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.resume(
        _session(arguments.dir),
        _run_directory(arguments, arguments.name),
        _changes(arguments),
        as_json=arguments.json,
        detach=arguments.detach,
    )


def _changes(arguments: argparse.Namespace) -> dict[str, object]:
    """The recipe values that a resumed run gets, by key. Raises `RecipeError`."""
    from mlxft import recipe as recipes

    changes: dict[str, object] = {} if arguments.iters is None else {"iters": arguments.iters}
    return changes | recipes.parsed_settings(arguments.set)


def _chat(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.chat import chat, read_prompts, typed_prompts

    model, adapter = _model_and_adapter(arguments)
    given = arguments.prompt
    typed = given is None and sys.stdin.isatty()
    if typed:
        prompts: Iterable[str] = typed_prompts()
    else:
        prompts = read_prompts(whole=given == "-") if given in (None, "-") else [given]
    return chat(
        _session(arguments.dir),
        model=model,
        adapter=adapter,
        prompts=prompts,
        system=arguments.system or "",
        sampling=_given_sampling(arguments),
        template=_template(arguments),
        trust_remote_code=arguments.trust_remote_code,
        on_terminal=typed,
        keep=given is None,
    )


def _generate(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.generate import generate, read_prompts

    model, adapter = _model_and_adapter(arguments)
    return generate(
        _session(arguments.dir),
        read_prompts(arguments.prompts, arguments.system),
        model=model,
        adapter=adapter,
        out=arguments.out,
        sampling=_given_sampling(arguments),
        template=_template(arguments),
        trust_remote_code=arguments.trust_remote_code,
    )


def _speed(arguments: argparse.Namespace) -> int:
    from mlxft.engine.protocol import MeasureSpeed, OpenModel
    from mlxft_tui.cli.speed import speed

    model, adapter = _model_and_adapter(arguments)
    command = MeasureSpeed(
        str(adapter.path) if adapter else None,
        arguments.prompt_tokens,
        arguments.generation_tokens,
        arguments.runs,
    )
    opening = OpenModel(model, arguments.trust_remote_code)
    return speed(_session(arguments.dir), opening, command, as_json=arguments.json)


def _evaluate(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.evaluate import evaluate

    other = arguments.compare
    return evaluate(
        _session(arguments.dir),
        _adapter(arguments, arguments.adapter),
        compare=_adapter(arguments, other) if other and other != "base" else other,
        model=arguments.model,
        data=arguments.data,
        split=arguments.split,
        limit=arguments.limit,
        max_tokens=arguments.max_tokens,
        as_json=arguments.json,
    )


def _export(arguments: argparse.Namespace) -> int:
    from mlxft.export.types import Quantize
    from mlxft_tui.cli.export import export

    return export(
        _session(arguments.dir),
        _adapter(arguments, arguments.adapter),
        form=arguments.to,
        checkpoint=arguments.checkpoint,
        out=arguments.out,
        quantize=Quantize(arguments.quantize),
        model=arguments.model,
        as_json=arguments.json,
    )


def _quantize(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.quantize import quantize

    return quantize(_session(arguments.dir), arguments)


def _check_data(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.data import check_data

    session = _session(arguments.dir)
    return check_data(session, arguments.data, arguments.model, as_json=arguments.json)


def _split_data(arguments: argparse.Namespace) -> int:
    from mlxft.data.splitting import Shares
    from mlxft_tui.cli.data import split_data

    shares = Shares(arguments.valid, arguments.test)
    return split_data(
        _session(arguments.dir), arguments.files, arguments.out, shares, arguments.seed
    )


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.self_test:
        from mlxft_tui.cli.self_test import run_self_test

        return run_self_test(arguments.dir, arguments.out, as_json=arguments.json)
    from mlxft_tui.cli.doctor import doctor

    return doctor(arguments.dir, as_json=arguments.json)


def _check_hosts(arguments: argparse.Namespace) -> int:
    from mlxft import recipe as recipes
    from mlxft_tui.cli.hosts import print_hosts

    recipe = recipes.load(arguments.recipe, arguments.set)
    return print_hosts(recipe, arguments.dir, as_json=arguments.json)


def _keys(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.keys import print_keys

    return print_keys(as_json=arguments.json)


def _notify(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.notify import notify

    return notify(arguments.event)


def _completion(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.completion import print_script

    return print_script(arguments.shell)


def _conversations(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.conversations import list_conversations

    return list_conversations(_session(arguments.dir), as_json=arguments.json)


def _export_conversation(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.conversations import export_conversations

    return export_conversations(_session(arguments.dir), arguments.conversation, arguments.out)


def _delete_conversation(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.conversations import delete_conversations

    return delete_conversations(_session(arguments.dir), arguments.conversation)


COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "open": _open,
    "demo": _demo,
    "train": _train,
    "estimate": _estimate,
    "models": _models,
    "download": _download,
    "upload": _upload,
    "runs": _runs,
    "queue": _queue,
    "sweep": _sweep,
    "sweep-report": _sweep_report,
    "attach": _attach,
    "stop": _stop,
    "pause": _pause,
    "resume": _resume,
    "chat": _chat,
    "conversations": _conversations,
    "export-conversation": _export_conversation,
    "delete-conversation": _delete_conversation,
    "generate": _generate,
    "speed": _speed,
    "evaluate": _evaluate,
    "export": _export,
    "quantize": _quantize,
    "check-data": _check_data,
    "split-data": _split_data,
    "doctor": _doctor,
    "check-hosts": _check_hosts,
    "keys": _keys,
    "notify": _notify,
    "completion": _completion,
}


# Shared by commands


def _app(
    arguments: argparse.Namespace,
    folder: Path,
    recipe: Recipe | None = None,
    follow: RunDirectory | None = None,
) -> int:
    size = os.get_terminal_size()
    columns, rows = SMALLEST_TERMINAL
    if size.columns < columns or size.lines < rows:
        raise MlxftError(
            f"This terminal is {size.columns}×{size.lines}; make it {columns}×{rows} or larger."
        )
    from mlxft_tui.terminal import garbage

    garbage.pause()
    from mlxft_tui.app import MlxftApp

    app = MlxftApp(folder, recipe=recipe, follow=follow, start_screen=True)
    app.run(mouse=not arguments.no_mouse)
    return app.return_code or 0


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _session(folder: Path) -> Session:
    from mlxft_tui.session import Session

    return Session(folder)


def _adapters(arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.dir
    return folder / "adapters"


def _run_directory(arguments: argparse.Namespace, name: str | None) -> RunDirectory:
    from mlxft.runs import history

    return history.find(_adapters(arguments), name)


def _model_and_adapter(arguments: argparse.Namespace) -> tuple[str, FoundAdapter | None]:
    """The model and the adapter of a command, which fit each other. Raises `MlxftError`."""
    from mlxft_tui.cli.service import refuse_unusable

    adapter = _adapter(arguments, arguments.adapter) if arguments.adapter else None
    model = arguments.model or (adapter.recipe.model if adapter else "")
    if adapter is not None:
        refuse_unusable(_session(arguments.dir), adapter, model)
    return model, adapter


def _adapter(arguments: argparse.Namespace, name: str) -> FoundAdapter:
    from mlxft.adapters.found import find_adapter

    return find_adapter(_adapters(arguments), name)


def _template(arguments: argparse.Namespace) -> ChatTemplate | None:
    """The chat template in place of the base model's, if there is one. Raises `RecipeError`."""
    from mlxft import recipe as recipes
    from mlxft.errors import RecipeError

    file, values = arguments.chat_template, arguments.chat_template_args
    if file is None and values is None:
        return None
    if arguments.adapter:
        raise RecipeError(
            "--chat-template is the base model's; an adapter answers with the template of its "
            "training, so leave --adapter or the template out."
        )
    named = str(Path(file).resolve()) if file and Path(file).is_file() else file
    given = {"chat_template": named, "chat_template_args": values or {}}
    recipe = recipes.Recipe()
    for key, value in given.items():
        recipe = recipes.replace(recipe, key, value)
    return recipe.template


def _given_sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    from mlxft.conversation.messages import Sampling

    given = {name: getattr(arguments, name) for name in Sampling.__struct_fields__}
    given["stop"] = tuple(arguments.stop) if arguments.stop else None
    return {name: value for name, value in given.items() if value is not None}
