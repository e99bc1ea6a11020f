"""The commands with their arguments. Building the parser imports nothing slow."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import mlxft
from mlxft_tui.cli.argument_types import (
    existing_folder,
    finite,
    folder_to_open,
    positive,
    project_folder,
    utf8_text,
)
from mlxft_tui.cli.quantize_options import QUANTIZE, add_options

DEFAULT: Final = "open"
"""The command of a command line that names none."""

_DESCRIPTION = "Fine-tune language models with MLX: data, recipe, training and chat in a terminal."

_EXAMPLES = """\
examples:
  mlxft-tui demo                         train a small model on the sample data
  mlxft-tui                              open this folder: its data, recipe and runs
  mlxft-tui train recipe.yaml            train without the app, one line per event
  mlxft-tui train recipe.yaml --set iters=200 --set learning_rate=1e-4 --detach
  mlxft-tui runs                         list the runs of this folder, live ones first
  mlxft-tui queue add recipe.yaml        train it once the runs before it have ended
  mlxft-tui attach                       watch the live run; quitting doesn't stop it
  mlxft-tui chat --model demo --adapter demo-lora-1 --prompt 'Turn on the lamp.'
  mlxft-tui evaluate demo-lora-1 --compare base
  mlxft-tui speed --model demo           tokens per second of prompt and generation
  mlxft-tui check-data data              list the faults of each record, by line
  mlxft-tui split-data all.csv           write train, valid and test files into data/

Runs are written to adapters/ of the project folder; mlx_lm generate --adapter-path loads them.
mlxft-tui COMMAND --help lists a command's options; train --help lists every recipe parameter."""

_COMPLETION = """\
add one line to your shell's startup file:
  ~/.bashrc                   eval "$(mlxft-tui completion bash)"
  ~/.zshrc, after compinit    eval "$(mlxft-tui completion zsh)"
  ~/.config/fish/config.fish  source (mlxft-tui completion fish | psub)"""

_ADAPTER = "a run, or the folder or file of an adapter made here, by mlx_lm or by PEFT"

_SETTING = re.compile(r"[A-Za-z_][\w.]*=")


class CommandParser(argparse.ArgumentParser):
    """A command's parser; `appendix` is added to its help and only computed for it."""

    appendix: Callable[[], str] | None = None

    def format_help(self) -> str:
        # argparse writes the metavar of the commands, which is blank, on a line of its own.
        help_text = re.sub(r"^ +\n", "", super().format_help(), flags=re.MULTILINE)
        return f"{help_text}\n{self.appendix()}" if self.appendix else help_text


Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of one command, named in `command`. Raises `SystemExit` and `MlxftError`."""
    parser, names = build()
    named = argv and argv[0] in (*names, "-h", "--help", "--version")
    words = list(argv) if named else [DEFAULT, *argv]
    arguments = parser.parse_args([*_with_repeated_set(words)])
    for name in ("folder", "dir"):
        if hasattr(arguments, name):
            setattr(arguments, name, project_folder(getattr(arguments, name)))
    return arguments


def build() -> tuple[argparse.ArgumentParser, tuple[str, ...]]:
    """The parser and the names of its commands."""
    parser = CommandParser(
        prog="mlxft-tui",
        usage="mlxft-tui [DIR] | COMMAND …",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlxft-tui {mlxft.__version__}")
    commands: Commands = parser.add_subparsers(
        title="commands",
        # argparse makes the column of names as wide as this.
        metavar=" " * 12,
        prog="mlxft-tui",
        dest="command",
        parser_class=CommandParser,
    )
    _add_app(commands)
    _add_train(commands)
    _add_estimate(commands)
    _add_models(commands)
    _add_runs(commands)
    _add_queue(commands)
    _add_sweep(commands)
    _add_chat(commands)
    _add_generate(commands)
    _add_conversations(commands)
    _add_speed(commands)
    _add_evaluate(commands)
    _add_export(commands)
    _add_quantize(commands)
    _add_data(commands)
    _add_doctor(commands)
    _add_shell(commands)
    return parser, tuple(commands.choices)


def _with_repeated_set(words: Sequence[str]) -> Iterator[str]:
    """Spell ``--set a=1 b=2`` as ``--set a=1 --set b=2``, so that --set can precede the recipe."""
    settings = False
    expects_value = False
    for word in words:
        if settings and not expects_value and _SETTING.match(word):
            yield "--set"
        elif not expects_value:
            settings = word == "--set" or word.startswith("--set=")
        expects_value = word == "--set" and not expects_value
        yield word


def _add_app(commands: Commands) -> None:
    opening = commands.add_parser(DEFAULT, help="open a project folder in the app (the default)")
    opening.add_argument(
        "folder",
        nargs="?",
        type=lambda text: folder_to_open(text, tuple(commands.choices)),
        default=Path(),
        metavar="DIR",
        help="the project folder (default: the current folder)",
    )
    demo = commands.add_parser("demo", help="train a small model on the sample data")
    demo.add_argument("--headless", action="store_true", help="without the app, one line per event")
    demo.add_argument("--iters", type=positive, metavar="N", help="steps to train (default 60)")
    demo.add_argument(
        "--preferences", action="store_true", help="train a preference on pairs of answers"
    )
    _add_json(demo)
    attach = commands.add_parser(
        "attach", help="watch a run: by default the live one, or the newest"
    )
    _add_run(attach, nargs="?")
    _add_json(attach)
    _add_dir(attach)
    for each in (opening, demo, attach):
        each.add_argument("--no-mouse", action="store_true", help="don't capture the mouse")


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a recipe without the app")
    train.appendix = _parameters
    _add_recipe(train)
    train.add_argument("--name", type=utf8_text, help="the run's name (the same as run_name)")
    _add_detach(train)
    _add_json(train)
    _add_dir(train)


def _add_estimate(commands: Commands) -> None:
    estimate = commands.add_parser(
        "estimate", help="estimate a recipe's memory and time; does it fit?"
    )
    _add_recipe(estimate)
    estimate.add_argument("--model", metavar="DIR", help="a folder with a config.json")
    estimate.add_argument(
        "--device", help="metal:36GB, cuda:80GB or cpu (default: this machine)", metavar="DEVICE"
    )
    _add_json(estimate)
    _add_dir(estimate)


def _add_models(commands: Commands) -> None:
    models = commands.add_parser(
        "models", help="list the models here or on the hub; can they be trained, do they fit?"
    )
    models.add_argument(
        "--search", type=utf8_text, metavar="TEXT", help="models of the hub with this in their name"
    )
    models.add_argument(
        "--sort",
        choices=("best", "name", "size", "parameters", "memory", "downloads", "likes", "updated"),
        metavar="ORDER",
        help="best, name, size, parameters or memory; of a search also downloads (the default), "
        "likes or updated",
    )
    models.add_argument(
        "--limit", type=positive, default=30, metavar="N", help="models of a search (default 30)"
    )
    models.add_argument(
        "--recipe",
        type=Path,
        metavar="RECIPE.yaml",
        help="the recipe that should fit (default: the project's)",
    )
    _add_json(models)
    _add_dir(models)
    download = commands.add_parser(
        "download", help="download a model of the hub, or continue a download"
    )
    download.add_argument("repository", metavar="OWNER/NAME", help="its name on the hub")
    _add_json(download)
    upload = commands.add_parser(
        "upload", help="upload an export to the hub, after a search for secrets in it"
    )
    upload.add_argument("exported", type=Path, metavar="DIR", help="the folder of an export")
    upload.add_argument(
        "--repo", required=True, metavar="OWNER/NAME", help="where to; made if it isn't there"
    )
    upload.add_argument("--private", action="store_true", help="make a new one private")
    upload.add_argument("--yes", action="store_true", help="don't ask")
    upload.add_argument(
        "--with-secrets", action="store_true", help="upload although keys or paths were found"
    )
    _add_json(upload)


def _add_runs(commands: Commands) -> None:
    runs = commands.add_parser("runs", help="list the runs, live ones first")
    _add_json(runs)
    _add_dir(runs)
    for name, purpose in (
        ("stop", "stop a run after its current step and save it"),
        ("pause", "pause a run after its current step"),
        (
            "resume",
            "continue a run that was paused, stopped or killed, or train a finished one further",
        ),
    ):
        command = commands.add_parser(name, help=purpose)
        _add_run(command)
        _add_dir(command)
    resume = commands.choices["resume"]
    resume.add_argument(
        "--iters", type=positive, metavar="N", help="train up to N steps, also a finished run"
    )
    _add_settings(resume)
    _add_detach(resume)
    _add_json(resume)


def _add_queue(commands: Commands) -> None:
    queue = commands.add_parser("queue", help="runs that wait, and train one after the other")
    actions: Commands = queue.add_subparsers(
        title="commands", metavar=" " * 12, dest="action", required=True, parser_class=CommandParser
    )
    add = actions.add_parser("add", help="add a run of a recipe at the end")
    _add_recipe(add)
    add.add_argument("--name", type=utf8_text, help="the run's name (the same as run_name)")
    _add_dir(add)
    actions.add_parser("list", help="list what trains, waits and has ended")
    move = actions.add_parser("move", help="move a waiting run to another place")
    _add_entries(move)
    move.add_argument("place", type=positive, metavar="PLACE", help="1 starts next")
    for name, purpose in (
        ("hold", "keep runs from starting until they are released"),
        ("release", "let held runs start"),
    ):
        _add_entries(actions.add_parser(name, help=purpose), nargs="*", default="the whole queue")
    _add_entries(actions.add_parser("remove", help="remove runs that wait"), nargs="+")
    now = actions.add_parser(
        "run-now", help="start a run at once; the one that trains is saved and waits behind it"
    )
    _add_entries(now)
    stop = actions.add_parser("stop", help="stop the run that trains, saved; the next one starts")
    for action in actions.choices.values():
        if action is not stop:
            _add_json(action)
    install = actions.add_parser("install", help="continue the queue after a login or a reboot")
    install.add_argument("--print", action="store_true", help="only print what would be written")
    actions.add_parser("uninstall", help="remove what install has written")


def _add_sweep(commands: Commands) -> None:
    sweep = commands.add_parser(
        "sweep", help="queue runs that differ in some parameters: a grid, or a search"
    )
    sweep.add_argument(
        "sweep",
        type=Path,
        metavar="SWEEP.yaml",
        help="a recipe, and a grid or a space",
    )
    sweep.add_argument("--dry-run", action="store_true", help="only list the points and their cost")
    report = commands.add_parser("sweep-report", help="what became of a sweep, as Markdown")
    report.add_argument("name", nargs="?", metavar="NAME", help="default: the newest sweep")
    report.add_argument("--csv", action="store_true", help="print CSV")
    for each in (sweep, report):
        _add_json(each)
        _add_dir(each)


def _add_entries(parser: CommandParser, nargs: str | None = None, default: str = "") -> None:
    parser.add_argument(
        "entry",
        nargs=nargs,
        type=utf8_text,
        metavar="ENTRY",
        help="a number or name from queue list" + (f" (default: {default})" if default else ""),
    )


def _add_chat(commands: Commands) -> None:
    chat = commands.add_parser("chat", help="talk to a model, with or without an adapter")
    _add_model_and_adapter(chat)
    _add_template(chat)
    chat.add_argument(
        "--prompt",
        type=utf8_text,
        metavar="TEXT",
        help="one message, or - for all of standard input (default: a conversation on the "
        "terminal, or of the lines of standard input)",
    )
    chat.add_argument("--system", type=utf8_text, metavar="TEXT", help="the system prompt")
    _add_sampling(chat)
    _add_dir(chat)


def _add_generate(commands: Commands) -> None:
    generate = commands.add_parser("generate", help="answer a file of prompts, many at once")
    _add_model_and_adapter(generate)
    _add_template(generate)
    generate.add_argument(
        "--prompts",
        required=True,
        metavar="FILE",
        help="JSON Lines with a prompt or messages each, or a prompt per line; - is stdin",
    )
    generate.add_argument("--system", type=utf8_text, metavar="TEXT", help="the system prompt")
    generate.add_argument(
        "--out", type=Path, metavar="FILE", help="a JSON Lines file to write (default: stdout)"
    )
    _add_sampling(generate)
    _add_dir(generate)


def _add_template(parser: CommandParser) -> None:
    parser.add_argument(
        "--chat-template",
        metavar="FILE|NAME",
        help="in place of the model's own; an adapter has that of its training",
    )
    parser.add_argument(
        "--chat-template-args", metavar="MAPPING", help="as {enable_thinking: false}"
    )


def _add_sampling(parser: CommandParser) -> None:
    sampling = parser.add_argument_group("sampling", "defaults are the model's generation config")
    for flag, kind, purpose in (
        ("--max-tokens", int, "longest answer"),
        ("--temperature", finite, "0 always takes the most likely token"),
        ("--top-p", finite, "sample from the most likely tokens with this total probability"),
        ("--top-k", int, "sample from this many most likely tokens"),
        ("--min-p", finite, "drop tokens below this fraction of the top token's probability"),
        ("--repetition-penalty", finite, "above 1 makes repetition less likely"),
        ("--seed", int, "seed of the sampling"),
    ):
        sampling.add_argument(flag, type=kind, help=purpose)
    sampling.add_argument(
        "--stop", type=utf8_text, nargs="+", metavar="TEXT", help="strings that end the answer"
    )


def _add_conversations(commands: Commands) -> None:
    listed = commands.add_parser("conversations", help="list the conversations of the app's chat")
    _add_json(listed)
    _add_dir(listed)
    for name, purpose in (
        ("export-conversation", "save conversations as training records"),
        ("delete-conversation", "delete conversations for good"),
    ):
        command = commands.add_parser(name, help=purpose)
        command.add_argument(
            "conversation",
            nargs="+",
            metavar="CONVERSATION",
            help="its name from conversations, or the beginning of it",
        )
        _add_dir(command)
    commands.choices["export-conversation"].add_argument(
        "--out",
        type=Path,
        default=Path("chat_export.jsonl"),
        metavar="FILE",
        help="added to if it exists (default chat_export.jsonl)",
    )


def _add_speed(commands: Commands) -> None:
    speed = commands.add_parser("speed", help="benchmark prompt processing and generation")
    _add_model_and_adapter(speed)
    for flag, count, purpose in (
        ("--runs", 5, "runs after one warm-up"),
        ("--prompt-tokens", 512, "length of the prompt"),
        ("--generation-tokens", 128, "length of the answer"),
    ):
        speed.add_argument(flag, type=positive, default=count, metavar="N", help=purpose)
    _add_json(speed)
    _add_dir(speed)


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="evaluate an adapter on held-out records")
    evaluate.add_argument("adapter", metavar="ADAPTER", help=_ADAPTER)
    evaluate.add_argument("--model", help="a folder, a Hugging Face id, or demo (default: its own)")
    evaluate.add_argument(
        "--data", metavar="PATH|HUB-ID", help="other records (default: the run's or the project's)"
    )
    evaluate.add_argument(
        "--split", choices=("test", "valid", "train"), default="test", help="default test"
    )
    evaluate.add_argument(
        "--compare", metavar="base|ADAPTER", help="compare with the base or another adapter"
    )
    evaluate.add_argument("--limit", type=positive, metavar="N", help="only the first N records")
    evaluate.add_argument(
        "--max-tokens", type=positive, default=256, metavar="N", help="longest answer (default 256)"
    )
    _add_json(evaluate)
    _add_dir(evaluate)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="write an adapter or the fused model elsewhere")
    export.add_argument("adapter", metavar="ADAPTER", help=_ADAPTER)
    export.add_argument(
        "--to",
        choices=("mlx", "gguf", "peft", "adapter", "gguf-adapter"),
        required=True,
        help="the fused model for MLX or llama.cpp; the adapter for PEFT, mlx_lm or llama.cpp",
    )
    export.add_argument(
        "--checkpoint",
        metavar="STEP|best",
        help="an earlier adapter of the run (default: its last)",
    )
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="the new folder (default: ADAPTER-FORM)"
    )
    export.add_argument(
        "--quantize",
        choices=QUANTIZE,
        metavar="KIND",
        default="keep",
        help="weights of the fused model: keep, none, bits or a mode; of a GGUF file its type",
    )
    export.add_argument("--model", help="a folder, a Hugging Face id, or demo (default: its own)")
    _add_json(export)
    _add_dir(export)


def _add_quantize(commands: Commands) -> None:
    quantize = commands.add_parser("quantize", help="write a model in fewer bits, and its new loss")
    add_options(quantize)
    _add_json(quantize)
    _add_dir(quantize)


def _add_data(commands: Commands) -> None:
    check = commands.add_parser("check-data", help="list faulty records by line")
    check.add_argument(
        "data", metavar="PATH|HUB-ID", help="a file, a folder, or owner/name on the Hub"
    )
    check.add_argument("--model", help="also apply this model's chat template and tokenizer")
    _add_json(check)
    _add_dir(check)
    split = commands.add_parser("split-data", help="split files into train, valid and test")
    split.add_argument(
        "files", nargs="+", metavar="FILE", help="files of records, or owner/name on the Hub"
    )
    split.add_argument(
        "--out",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of the new files (default data)",
    )
    split.add_argument(
        "--valid",
        type=finite,
        default=0.1,
        metavar="SHARE",
        help="to evaluate during training (default 0.1)",
    )
    split.add_argument(
        "--test",
        type=finite,
        default=0.1,
        metavar="SHARE",
        help="to evaluate afterwards (default 0.1)",
    )
    split.add_argument(
        "--seed", type=int, default=0, help="for the random choice of records (default 0)"
    )
    _add_dir(split)


def _add_doctor(commands: Commands) -> None:
    doctor = commands.add_parser(
        "doctor", help="check this machine, its settings and the terminal; what to change"
    )
    doctor.add_argument(
        "--self-test",
        action="store_true",
        help="measure this machine for up to five minutes: gradients, memory, resumes, speed",
    )
    doctor.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the self-test's file to share (default mlxft-self-test.json in the project)",
    )
    _add_json(doctor)
    _add_dir(doctor)
    hosts = commands.add_parser(
        "check-hosts", help="check the machines of a recipe's hosts: SSH, versions, model, memory"
    )
    _add_recipe(hosts)
    _add_json(hosts)
    _add_dir(hosts)


def _add_shell(commands: Commands) -> None:
    keys = commands.add_parser("keys", help="list the app's keys and their ids for keys.toml")
    _add_json(keys)
    completion = commands.add_parser(
        "completion",
        help="print the script that completes commands in a shell",
        epilog=_COMPLETION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


# Arguments of several commands


def _add_run(parser: CommandParser, nargs: str | None = None) -> None:
    parser.add_argument("name", nargs=nargs, metavar="RUN", help="a name from runs, or a folder")


def _add_recipe(parser: CommandParser) -> None:
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE.yaml", help="a recipe or mlx_lm's --config file"
    )
    _add_settings(parser)


def _add_settings(parser: CommandParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key=value",
        help="override a parameter of the recipe; may be repeated",
    )


def _add_model_and_adapter(parser: CommandParser) -> None:
    parser.add_argument(
        "--model", help="a folder, a Hugging Face id, or demo (default: the adapter's)"
    )
    parser.add_argument("--adapter", help=_ADAPTER)
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the model's own Python"
    )


def _add_json(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_detach(parser: CommandParser) -> None:
    parser.add_argument("--detach", action="store_true", help="return once the run trains")


def _add_dir(parser: CommandParser) -> None:
    parser.add_argument(
        "--dir",
        type=existing_folder,
        default=Path(),
        help="the project folder, which holds adapters/ (default: the current folder)",
    )


def _parameters() -> str:
    from mlxft_tui.cli.parameter_help import parameter_help

    return parameter_help()
