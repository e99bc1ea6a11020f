"""The command line. It imports a command's modules only when that command runs, to be quick."""

from __future__ import annotations

import argparse
import difflib
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import mlxft
from mlxft.errors import MlxftError

if TYPE_CHECKING:
    from mlxft.recipe import Recipe
    from mlxft.runs.directory import RunDirectory
    from mlxft_tui.session import Session

SMALLEST_TERMINAL = (40, 12)
"""Columns and rows below which nothing useful can be shown."""

_DESCRIPTION = "Fine-tune language models with MLX: data, recipe, training and chat in a terminal."

_EXAMPLES = """\
examples:
  mlxft-tui demo                         a small model learns while you watch
  mlxft-tui                              open this folder: its data, recipe and runs
  mlxft-tui train recipe.yaml            train without the app, one line per event
  mlxft-tui train recipe.yaml --set iters=200 learning_rate=1e-4 --detach
  mlxft-tui runs                         what has been trained here, and what trains now
  mlxft-tui attach                       watch the run that trains; leaving doesn't stop it
  mlxft-tui chat --model demo --adapter demo-lora-1 --prompt 'Turn on the lamp.'
  mlxft-tui evaluate demo-lora-1 --compare base
  mlxft-tui speed --model demo           tokens a second, prompt and answer apart
  mlxft-tui check-data data              what is wrong with the records, by line
  mlxft-tui split-data all.csv           new files in data/, with a tenth held out twice

A run lives in adapters/ of the project's folder; mlx_lm generate --adapter-path takes it as it is.
mlxft-tui COMMAND --help tells more, train --help also every training parameter."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. What is the user's to mend is one sentence."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that can't show a sign gets a question mark, not an error.
            stream.reconfigure(errors="replace")
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        command: Callable[[argparse.Namespace], int] = arguments.run
        return command(arguments)
    except MlxftError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone; a run goes on. Nothing is left to be flushed to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        from mlxft_tui.terminal import crash

        print(crash.record(error), file=sys.stderr)
        return 1


def _complain(message: str) -> int:
    from mlxft.text.printable import printable_line

    print(f"mlxft-tui: {printable_line(message)}", file=sys.stderr)
    return 1


# The commands


def _open(arguments: argparse.Namespace) -> int:
    if not _has_terminal():
        raise MlxftError(
            "The app needs a terminal; without one use train, runs, attach or chat "
            "(mlxft-tui --help)."
        )
    return _app(arguments, arguments.folder)


def _demo(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli.demo import demo_recipe

    recipe = demo_recipe(arguments.iters)
    if _has_terminal() and not (arguments.headless or arguments.json):
        return _app(arguments, Path.cwd(), recipe)
    from mlxft_tui.cli import runs

    return runs.train(_session(Path.cwd()), recipe, as_json=arguments.json, detach=False)


def _train(arguments: argparse.Namespace) -> int:
    from mlxft import recipe as recipes
    from mlxft_tui.cli import runs

    recipe = recipes.load(arguments.recipe, arguments.set)
    session = _session(arguments.dir)
    return runs.train(session, recipe, as_json=arguments.json, detach=arguments.detach)


def _estimate(arguments: argparse.Namespace) -> int:
    from mlxft import recipe as recipes
    from mlxft_tui.cli.estimate import estimate_recipe, tell

    recipe = recipes.load(arguments.recipe, arguments.set)
    estimate, standing = estimate_recipe(recipe, arguments.model, arguments.device)
    return tell(estimate, standing, as_json=arguments.json)


def _runs(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.runs(_adapters(arguments), as_json=arguments.json)


def _attach(arguments: argparse.Namespace) -> int:
    directory = _run_directory(arguments)
    if _has_terminal() and not arguments.json:
        return _app(arguments, arguments.dir, follow=directory)
    from mlxft_tui.cli import runs

    return runs.attach(directory, as_json=arguments.json)


def _stop(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.stop(_run_directory(arguments))


def _pause(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.pause(_run_directory(arguments))


def _resume(arguments: argparse.Namespace) -> int:
    from mlxft_tui.cli import runs

    return runs.resume(
        _session(arguments.dir),
        _run_directory(arguments),
        as_json=arguments.json,
        detach=arguments.detach,
    )


def _chat(arguments: argparse.Namespace) -> int:
    from mlxft.conversation.messages import Message
    from mlxft_tui.cli import runs

    adapter = _named_run(arguments, arguments.adapter) if arguments.adapter else None
    model = arguments.model or (adapter.recipe().model if adapter else "")
    system = (Message("system", arguments.system),) if arguments.system else ()
    return runs.chat(
        _session(arguments.dir),
        model,
        adapter,
        (*system, Message("user", arguments.prompt)),
        _given_sampling(arguments),
        trust_remote_code=arguments.trust_remote_code,
    )


def _speed(arguments: argparse.Namespace) -> int:
    from mlxft.engine.protocol import MeasureSpeed, OpenModel
    from mlxft_tui.cli.speed import speed

    adapter = _named_run(arguments, arguments.adapter) if arguments.adapter else None
    model = arguments.model or (adapter.recipe().model if adapter else "")
    command = MeasureSpeed(
        str(adapter.path.resolve()) if adapter else None,
        arguments.prompt_tokens,
        arguments.generation_tokens,
        arguments.runs,
    )
    opening = OpenModel(model, arguments.trust_remote_code)
    return speed(_session(arguments.dir), opening, command, as_json=arguments.json)


def _evaluate(arguments: argparse.Namespace) -> int:
    from mlxft.conversation.messages import Sampling
    from mlxft.engine.protocol import Evaluate, OpenModel
    from mlxft_tui.cli.evaluate import evaluate

    run, session = _run_directory(arguments), _session(arguments.dir)
    recipe = run.recipe()
    sides: list[tuple[str, str | None]] = [(run.name, str(run.path.resolve()))]
    if arguments.compare == "base":
        sides.insert(0, ("base", None))
    elif arguments.compare:
        other = _named_run(arguments, arguments.compare)
        sides.insert(0, (other.name, str(other.path.resolve())))
    command = Evaluate(
        recipe,
        str(session.data(recipe).resolve()),
        tuple(sides),
        arguments.split,
        Sampling(max_tokens=arguments.max_tokens),
        arguments.limit,
    )
    opening = OpenModel(recipe.model, recipe.trust_remote_code)
    return evaluate(session, opening, command, as_json=arguments.json)


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


# What the commands share


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
    from mlxft_tui.app import MlxftApp

    app = MlxftApp(folder, recipe=recipe, follow=follow)
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


def _run_directory(arguments: argparse.Namespace) -> RunDirectory:
    return _named_run(arguments, arguments.name)


def _named_run(arguments: argparse.Namespace, name: str | None) -> RunDirectory:
    from mlxft.runs import registry

    return registry.find(_adapters(arguments), name)


def _given_sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    from mlxft.conversation.messages import Sampling

    given = {name: getattr(arguments, name) for name in Sampling.__struct_fields__}
    given["stop"] = tuple(arguments.stop) if arguments.stop else None
    return {name: value for name, value in given.items() if value is not None}


# The parser


class _Parser(argparse.ArgumentParser):
    """A command's parser; its help may end in something that takes long to gather."""

    appendix: Callable[[], str] | None = None

    def format_help(self) -> str:
        help_text = super().format_help()
        return f"{help_text}\n{self.appendix()}" if self.appendix else help_text


_Commands: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _parameters() -> str:
    import shutil
    import textwrap

    from mlxft.recipe import GROUPS, PARAMETERS
    from mlxft.recipe.effects import EFFECTS

    width = min(100, shutil.get_terminal_size().columns)
    lines = ["training parameters, as keys of the recipe and of --set:"]
    for group in GROUPS:
        lines += ["", f"{group}:"]
        for parameter in PARAMETERS.values():
            if parameter.declared.group == group:
                default = _shown(parameter.default)
                lines.append(f"  {parameter.key} ({parameter.rule}; {default})")
                lines += textwrap.wrap(
                    f"{parameter.declared.help} {EFFECTS[parameter.key].sentence}",
                    width,
                    initial_indent=" " * 6,
                    subsequent_indent=" " * 6,
                )
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"default {str(default).lower()}"
    return "empty by default" if default in (None, "", (), {}) else f"default {default}"


def _parse(argv: list[str]) -> argparse.Namespace:
    named = argv and argv[0] in (*_COMMANDS, "-h", "--help", "--version")
    return _parser().parse_args(argv if named else ["open", *argv])


_COMMANDS = (
    "open",
    "demo",
    "train",
    "estimate",
    "runs",
    "attach",
    "stop",
    "pause",
    "resume",
    "chat",
    "speed",
    "evaluate",
    "check-data",
    "split-data",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlxft-tui",
        usage="mlxft-tui [DIR] | COMMAND …",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlxft-tui {mlxft.__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="", prog="mlxft-tui", parser_class=_Parser
    )
    _add_app(commands)
    _add_training(commands)
    _add_estimate(commands)
    _add_steering(commands)
    _add_chat(commands)
    _add_judging(commands)
    _add_data(commands)
    return parser


def _add_app(commands: _Commands) -> None:
    opening = commands.add_parser("open", help="open a project's folder in the app (the default)")
    opening.add_argument("folder", nargs="?", type=_folder_to_open, default=Path(), metavar="DIR")
    opening.set_defaults(run=_open)
    demo = commands.add_parser("demo", help="train a small model on the sample data")
    demo.add_argument("--headless", action="store_true", help="without the app, a line per event")
    demo.add_argument("--iters", type=_positive, metavar="N", help="steps to train")
    _add_json(demo)
    demo.set_defaults(run=_demo)
    attach = commands.add_parser("attach", help="watch a run: the one at work, or the newest")
    attach.add_argument("name", nargs="?", metavar="RUN", help="a name from runs, or a folder")
    _add_json(attach)
    _add_dir(attach)
    attach.set_defaults(run=_attach)
    for each in (opening, demo, attach):
        each.add_argument("--no-mouse", action="store_true", help="leave the mouse to the terminal")


def _add_training(commands: _Commands) -> None:
    train = commands.add_parser("train", help="train a recipe without the app")
    train.appendix = _parameters
    train.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="ours, or mlx_lm's config")
    train.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help="change parameters of the recipe",
    )
    _add_detach(train)
    _add_json(train)
    _add_dir(train)
    train.set_defaults(run=_train)


def _add_estimate(commands: _Commands) -> None:
    estimate = commands.add_parser("estimate", help="tell a recipe's memory, and whether it fits")
    estimate.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="as for train")
    estimate.add_argument("--model", metavar="DIR", help="a folder that holds a config.json")
    estimate.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="key=value",
        help="change parameters of the recipe",
    )
    estimate.add_argument(
        "--device", help="metal:36GB, cuda:80GB or cpu; else this machine", metavar="DEVICE"
    )
    _add_json(estimate)
    estimate.set_defaults(run=_estimate)


def _add_steering(commands: _Commands) -> None:
    runs = commands.add_parser("runs", help="list the runs, those at work first")
    _add_json(runs)
    _add_dir(runs)
    runs.set_defaults(run=_runs)
    for name, run, what in (
        ("stop", _stop, "end a run after its step, saved"),
        ("pause", _pause, "make a run wait after its step"),
        ("resume", _resume, "go on with a run that is paused, was stopped, or has died"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("name", metavar="RUN", help="a name from runs, or a folder")
        _add_dir(command)
        command.set_defaults(run=run)
        if name == "resume":
            _add_detach(command)
            _add_json(command)


def _add_chat(commands: _Commands) -> None:
    chat = commands.add_parser(
        "chat", help="have a model answer one prompt, with an adapter or not"
    )
    chat.add_argument("--model", help="a folder, a Hugging Face id, or demo; else the adapter's")
    chat.add_argument("--adapter", metavar="RUN", help="a run whose adapter answers")
    chat.add_argument("--prompt", type=_text, required=True, metavar="TEXT")
    chat.add_argument(
        "--system", type=_text, metavar="TEXT", help="what the model is told beforehand"
    )
    chat.add_argument("--trust-remote-code", action="store_true", help="run the model's own Python")
    sampling = chat.add_argument_group(
        "sampling", "what is left out is as the model's makers advise"
    )
    for flag, kind, what in (
        ("--max-tokens", int, "longest answer"),
        ("--temperature", _finite, "0 always takes the likeliest token"),
        ("--top-p", _finite, "draw from the likeliest tokens that make up this share"),
        ("--top-k", int, "draw from this many likeliest tokens"),
        ("--min-p", _finite, "leave out tokens less likely than this share of the likeliest"),
        ("--repetition-penalty", _finite, "above 1 makes repetition less likely"),
        ("--seed", int, "decides the draw"),
    ):
        sampling.add_argument(flag, type=kind, help=what)
    sampling.add_argument(
        "--stop", type=_text, nargs="+", metavar="TEXT", help="texts that end the answer"
    )
    _add_dir(chat)
    chat.set_defaults(run=_chat)


def _add_judging(commands: _Commands) -> None:
    speed = commands.add_parser("speed", help="measure how fast a model reads and writes")
    speed.add_argument("--model", help="a folder, a Hugging Face id, or demo; else the adapter's")
    speed.add_argument("--adapter", metavar="RUN", help="a run whose adapter is on the model")
    for flag, count, what in (
        ("--runs", 5, "runs after one to warm up"),
        ("--prompt-tokens", 512, "length of the prompt"),
        ("--generation-tokens", 128, "length of the answer"),
    ):
        speed.add_argument(flag, type=_positive, default=count, metavar="N", help=what)
    speed.add_argument("--trust-remote-code", action="store_true", help="run its own Python")
    speed.set_defaults(run=_speed)
    evaluate = commands.add_parser("evaluate", help="judge a run on records it has not seen")
    evaluate.add_argument("name", metavar="RUN", help="a name from runs, or a folder")
    evaluate.add_argument("--split", choices=("test", "valid", "train"), default="test")
    evaluate.add_argument("--compare", metavar="base|RUN", help="what it is compared with")
    evaluate.add_argument("--limit", type=_positive, metavar="N", help="only the first N records")
    evaluate.add_argument(
        "--max-tokens", type=_positive, default=256, metavar="N", help="longest answer"
    )
    evaluate.set_defaults(run=_evaluate)
    for each in (speed, evaluate):
        _add_json(each)
        _add_dir(each)


def _add_data(commands: _Commands) -> None:
    check = commands.add_parser("check-data", help="tell what is wrong with records, by line")
    check.add_argument("data", metavar="PATH|HUB-ID", help="a file, a folder, or owner/name")
    check.add_argument("--model", help="also through this model's chat template and tokenizer")
    _add_json(check)
    _add_dir(check)
    check.set_defaults(run=_check_data)
    split = commands.add_parser("split-data", help="make train, valid and test of files")
    split.add_argument("files", nargs="+", metavar="FILE", help="files of records, or a HUB-ID")
    split.add_argument("--out", type=Path, default=Path("data"), metavar="DIR", help="default data")
    split.add_argument("--valid", type=_finite, default=0.1, metavar="SHARE", help="default 0.1")
    split.add_argument("--test", type=_finite, default=0.1, metavar="SHARE", help="default 0.1")
    split.add_argument("--seed", type=int, default=0, help="decides which records are held out")
    _add_dir(split)
    split.set_defaults(run=_split_data)


def _add_json(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def _add_detach(parser: _Parser) -> None:
    parser.add_argument(
        "--detach", action="store_true", help="return as soon as the run has started"
    )


def _add_dir(parser: _Parser) -> None:
    parser.add_argument(
        "--dir",
        type=_project_folder,
        default=Path(),
        help="the project's folder, where adapters/ and relative paths begin (default: this one)",
    )


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        from mlxft.text.printable import printable_line

        raise argparse.ArgumentTypeError(
            f"{printable_line(text)} holds bytes that are not UTF-8"
        ) from None
    return text


def _positive(text: str) -> int:
    from mlxft.recipe import PARAMETERS

    most = PARAMETERS["iters"].declared.maximum or math.inf
    if not text.isdecimal() or not 1 <= float(text) <= most:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 to {most:.0f}")
    return int(text)


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text} is not a number")
    return number


def _folder_to_open(text: str) -> Path:
    """The first word of a command line that names no command."""
    if not os.path.isdir(text):
        close = difflib.get_close_matches(text, _COMMANDS, 1)
        hint = f"did you mean mlxft-tui {close[0]}?" if close else "mlxft-tui --help lists those."
        raise MlxftError(f"{text}: this is neither a folder nor a command; {hint}")
    return Path(text)


def _project_folder(text: str) -> Path:
    if not os.path.isdir(text):
        raise MlxftError(f"{text}: this folder doesn't exist; make it or choose another --dir.")
    return Path(text)
