"""The commands with their arguments. Building the parser imports nothing slow."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import mlxft
from mlxft_tui.cli.argument_types import (
    finite,
    folder_to_open,
    positive,
    project_folder,
    utf8_text,
)
from mlxft_tui.cli.quantize_options import QUANTIZE, add_options
from mlxft_tui.cli.run_arguments import add_queue, add_runs, add_sweep
from mlxft_tui.cli.shared_arguments import (
    ADAPTER,
    CommandParser,
    Commands,
    add_detach,
    add_dir,
    add_json,
    add_model_and_adapter,
    add_recipe,
    add_run,
)

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

_SETTING = re.compile(r"[A-Za-z_][\w.]*=")


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
    add_runs(commands)
    add_queue(commands)
    add_sweep(commands)
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
    add_json(demo)
    attach = commands.add_parser(
        "attach", help="watch a run: by default the live one, or the newest"
    )
    add_run(attach, nargs="?")
    add_json(attach)
    add_dir(attach)
    for each in (opening, demo, attach):
        each.add_argument("--no-mouse", action="store_true", help="don't capture the mouse")


def _add_train(commands: Commands) -> None:
    train = commands.add_parser("train", help="train a recipe without the app")
    train.appendix = _parameters
    add_recipe(train)
    train.add_argument("--name", type=utf8_text, help="the run's name (the same as run_name)")
    add_detach(train)
    add_json(train)
    add_dir(train)


def _add_estimate(commands: Commands) -> None:
    estimate = commands.add_parser(
        "estimate", help="estimate a recipe's memory and time; does it fit?"
    )
    add_recipe(estimate)
    estimate.add_argument("--model", metavar="DIR", help="a folder with a config.json")
    estimate.add_argument(
        "--device", help="metal:36GB, cuda:80GB or cpu (default: this machine)", metavar="DEVICE"
    )
    add_json(estimate)
    add_dir(estimate)


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
    add_json(models)
    add_dir(models)
    download = commands.add_parser(
        "download", help="download a model of the hub, or continue a download"
    )
    download.add_argument("repository", metavar="OWNER/NAME", help="its name on the hub")
    add_json(download)
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
    add_json(upload)


def _add_chat(commands: Commands) -> None:
    chat = commands.add_parser("chat", help="talk to a model, with or without an adapter")
    _add_answerer(chat)
    chat.add_argument(
        "--prompt",
        type=utf8_text,
        metavar="TEXT",
        help="one message, or - for all of standard input (default: a conversation on the "
        "terminal, or of the lines of standard input)",
    )
    _add_sampling(chat)
    add_dir(chat)


def _add_generate(commands: Commands) -> None:
    generate = commands.add_parser("generate", help="answer a file of prompts, many at once")
    _add_answerer(generate)
    generate.add_argument(
        "--prompts",
        required=True,
        metavar="FILE",
        help="JSON Lines with a prompt or messages each, or a prompt per line; - is stdin",
    )
    generate.add_argument(
        "--out", type=Path, metavar="FILE", help="a JSON Lines file to write (default: stdout)"
    )
    _add_sampling(generate)
    add_dir(generate)


def _add_answerer(parser: CommandParser) -> None:
    """What answers: a model with or without an adapter, its chat template and system prompt."""
    add_model_and_adapter(parser)
    parser.add_argument(
        "--chat-template",
        metavar="FILE|NAME",
        help="in place of the model's own; an adapter has that of its training",
    )
    parser.add_argument(
        "--chat-template-args", metavar="MAPPING", help="as {enable_thinking: false}"
    )
    parser.add_argument("--system", type=utf8_text, metavar="TEXT", help="the system prompt")


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
    add_json(listed)
    add_dir(listed)
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
        add_dir(command)
    commands.choices["export-conversation"].add_argument(
        "--out",
        type=Path,
        default=Path("chat_export.jsonl"),
        metavar="FILE",
        help="added to if it exists (default chat_export.jsonl)",
    )


def _add_speed(commands: Commands) -> None:
    speed = commands.add_parser("speed", help="benchmark prompt processing and generation")
    add_model_and_adapter(speed)
    for flag, count, purpose in (
        ("--runs", 5, "runs after one warm-up"),
        ("--prompt-tokens", 512, "length of the prompt"),
        ("--generation-tokens", 128, "length of the answer"),
    ):
        speed.add_argument(flag, type=positive, default=count, metavar="N", help=purpose)
    add_json(speed)
    add_dir(speed)


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser("evaluate", help="evaluate an adapter on held-out records")
    evaluate.add_argument("adapter", metavar="ADAPTER", help=ADAPTER)
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
    add_json(evaluate)
    add_dir(evaluate)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser("export", help="write an adapter or the fused model elsewhere")
    export.add_argument("adapter", metavar="ADAPTER", help=ADAPTER)
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
    add_json(export)
    add_dir(export)


def _add_quantize(commands: Commands) -> None:
    quantize = commands.add_parser("quantize", help="write a model in fewer bits, and its new loss")
    add_options(quantize)
    add_json(quantize)
    add_dir(quantize)


def _add_data(commands: Commands) -> None:
    check = commands.add_parser("check-data", help="list faulty records by line")
    check.add_argument(
        "data", metavar="PATH|HUB-ID", help="a file, a folder, or owner/name on the Hub"
    )
    check.add_argument("--model", help="also apply this model's chat template and tokenizer")
    add_json(check)
    add_dir(check)
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
    add_dir(split)


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
    add_json(doctor)
    add_dir(doctor)
    hosts = commands.add_parser(
        "check-hosts", help="check the machines of a recipe's hosts: SSH, versions, model, memory"
    )
    add_recipe(hosts)
    add_json(hosts)
    add_dir(hosts)


def _add_shell(commands: Commands) -> None:
    keys = commands.add_parser("keys", help="list the app's keys and their ids for keys.toml")
    add_json(keys)
    notify = commands.add_parser("notify", help="try out the notifications of notifications.toml")
    notify.add_argument("--event", default="finished", help="what to notify of")
    completion = commands.add_parser(
        "completion",
        help="print the script that completes commands in a shell",
        epilog=_COMPLETION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


def _parameters() -> str:
    from mlxft_tui.cli.parameter_help import parameter_help

    return parameter_help()
