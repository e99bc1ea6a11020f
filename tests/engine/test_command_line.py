"""The commands that need no terminal, run as a user's script would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlxft
from mlxft.comparison.table import row_of
from mlxft.recipe import PARAMETERS, rate_at
from mlxft.runs import events as ev
from mlxft.runs.directory import RunDirectory
from mlxft.runs.followed import read_run
from support.models import CHAT_TEMPLATE, make_tiny_model
from support.peft_files import make_peft_adapter
from support.project import Project, events_of, eventually
from support.terminal import Terminal

COMMAND = [sys.executable, "-m", "mlxft_tui.cli"]
SHORT = ("iters=4", "steps_per_report=2", "val_batches=1", "save_every=2")


def run(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a folder, without a terminal."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def watching(project: Project, *arguments: str) -> subprocess.Popen[str]:
    """The command, running in the project's folder."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=project.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_report(process: subprocess.Popen[str]) -> None:
    """Read stdout up to the first training report; fails if the command exits before it."""
    assert process.stdout is not None
    assert any(" tok/s  peak" in line for line in process.stdout)


def newest(project: Project) -> RunDirectory:
    paths = (project.folder / "adapters").iterdir()
    return RunDirectory(max(paths, key=lambda each: each.stat().st_mtime))


def error_of(done: subprocess.CompletedProcess[str], *, after_progress: bool = False) -> str:
    """The one sentence that a failed command prints, alone or after lines of progress."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    *progress, line = done.stderr.splitlines()
    assert after_progress or not progress
    assert line.startswith("mlxft-tui: ")
    return line


@pytest.fixture(autouse=True)
def idle(project: Project) -> Iterator[None]:
    """No run is left running for the next test."""
    yield
    project.end_engines()


class TestCheckingData:
    def test_a_model_adds_warnings_about_tokens(self, project: Project) -> None:
        """Every kind of warning that needs a tokenizer."""
        records = [
            {"prompt": "a", "completion": "b"},
            {"prompt": "a", "completion": "b " * 60},
            {"prompt": "a " * 60, "completion": "b"},
            {"text": "no prompt to mask"},
        ]
        folder = project.folder / "checked"
        folder.mkdir()
        lines = "".join(json.dumps(each) + "\n" for each in records)
        (folder / "train.jsonl").write_text(lines)
        settings = "max_seq_length: 64\nmask_prompt: true\n"
        (folder / "recipe.yaml").write_text(settings)
        model = str(project.folder / project.recipe.model)
        done = run(folder, "check-data", ".", "--model", model, "--json")
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["files"]
        warnings = {(each["kind"], each["line"]) for each in found["warnings"]}
        assert warnings >= {("too long", 2), ("untrained", 3), ("no prompt", 4)}
        assert found["tokens"]["overlong"] == 2

    def test_what_is_trained_with_which_weight_is_printed(
        self, project: Project, tmp_path: Path
    ) -> None:
        """The template writes earlier answers otherwise, so each is trained as a record."""
        template = CHAT_TEMPLATE.replace(
            "message['content']", "('' if loop.last else '- ') + message['content']"
        )
        make_tiny_model(tmp_path / "model", chat_template=template)
        asked = {"role": "user", "content": "Is it on?"}
        answers = [{"role": "assistant", "content": "Yes.", "weight": each} for each in (1, 3)]
        record = {"messages": [asked, answers[0], asked, answers[1]]}
        lines = "".join(json.dumps({**record, "id": n}) + "\n" for n in range(6))
        (tmp_path / "train.jsonl").write_text(lines)
        (tmp_path / "recipe.yaml").write_text("train_on: all_answers\n")
        command = ("check-data", "train.jsonl", "--model", "model")
        printed = run(tmp_path, *command).stdout
        found = json.loads(run(tmp_path, *command, "--json").stdout)["files"][0]["tokens"]
        assert (found["records"], found["trained_as"]) == (6, 12)
        assert found["trained_weight"] == 2 * found["trained_tokens"]
        assert "6 records trained as 12" in printed
        assert f"{found['trained_tokens']} trained with weight {found['trained_weight']:.0f}" in (
            printed
        )

    def test_records_that_a_model_lacks_tokens_for_are_in_the_verdict(
        self, project: Project, tmp_path: Path
    ) -> None:
        model = make_tiny_model(tmp_path / "model")
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        beyond = {**tokenizer["added_tokens"][0], "content": "<tool>"}
        beyond["id"] = max(tokenizer["model"]["vocab"].values()) + 1
        tokenizer["added_tokens"].append(beyond)
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        records = [{"text": "Lamp <tool> on."}, *({"text": f"Lamp {n} on."} for n in range(5))]
        file = tmp_path / "train.jsonl"
        file.write_text("".join(json.dumps(each) + "\n" for each in records))
        done = run(tmp_path, "check-data", "train.jsonl", "--model", "model")
        assert done.returncode == 1, done.stderr
        *_, verdict = done.stdout.splitlines()
        assert verdict.startswith("no faults found in 6 records, 1 the model can't take")
        assert "line 1: the record has a token beyond" in done.stdout


class TestHelp:
    def test_it_lists_every_command_with_examples(self, tmp_path: Path) -> None:
        done = run(tmp_path, "--help")
        assert done.returncode == 0
        steering = ("train", "runs", "attach", "stop", "pause", "resume")
        for command in ("demo", *steering, "chat", "evaluate", "speed"):
            assert f"\n    {command} " in done.stdout
        assert "examples:" in done.stdout

    def test_train_help_lists_every_parameter(self, tmp_path: Path) -> None:
        output = run(tmp_path, "train", "--help").stdout
        assert max(map(len, output.splitlines())) <= 80
        for key, parameter in PARAMETERS.items():
            assert f" {key} ({parameter.short_rule}; " in " ".join(output.split())

    def test_version(self, tmp_path: Path) -> None:
        assert run(tmp_path, "--version").stdout == f"mlxft-tui {mlxft.__version__}\n"

    def test_quick_commands_load_nothing_heavy(self) -> None:
        code = (
            "import sys; from mlxft_tui.cli.main import main; main(['runs']);"
            "sys.exit([each for each in ('textual', 'mlx', 'numpy') if each in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stderr.strip() == "[]"


class TestTrain:
    def test_with_json_each_line_is_an_event_and_the_last_is_the_result(
        self, project: Project
    ) -> None:
        done = run(project.folder, "train", "recipe.yaml", "--json", "--set", *SHORT)
        assert (done.returncode, done.stderr) == (0, "")
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
        last = events[-1]
        assert last["event"] == "run_finished"
        assert last["first_loss"] > 0
        assert last["final_loss"] > 0
        assert last["tokens_per_second"] > 0
        assert last["peak_memory"] > 0
        assert Path(last["adapter_path"], "adapters.safetensors").is_file()
        again = run(project.folder, "attach", "--json")
        assert again.stdout == done.stdout

    def test_without_json_reports_are_lines_and_steps_are_not(self, project: Project) -> None:
        done = run(project.folder, "train", "recipe.yaml", "--set", *SHORT)
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        assert lines[0].startswith("run model-lora-")
        assert [each.split()[1] for each in lines if " tok/s  peak" in each][:2] == ["2", "4"]
        assert lines[-1].startswith("finished at step 4")

    @pytest.mark.parametrize("more", [(), ("--detach",)])
    def test_a_failed_run_is_its_sentence_and_status_1(
        self, project: Project, tmp_path: Path, more: tuple[str, ...]
    ) -> None:
        before = listed(project.folder)
        done = run(project.folder, "train", "recipe.yaml", *more, "--set", f"model={tmp_path}")
        assert "not an MLX model folder" in error_of(done)
        # A failed start leaves nothing behind.
        assert listed(project.folder) == before
        assert len(list((project.folder / "adapters").glob("*/"))) == len(before)

    def test_ctrl_c_stops_and_saves(self, project: Project) -> None:
        with watching(project, "train", "recipe.yaml") as process:
            wait_for_report(process)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "stopping after this step and saving" in errors
        assert "stopped at step" in output
        (last,) = [e for e in events_of(newest(project)) if isinstance(e, ev.RunFinished)]
        assert (newest(project).checkpoints / f"{last.step:07d}").is_dir()

    def test_ctrl_c_while_attached_only_detaches(self, project: Project) -> None:
        directory = project.start()
        with watching(project, "attach", directory.name) as process:
            wait_for_report(process)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert f"{directory.name} keeps running" in errors
        assert directory.is_live()

    def test_a_closed_pipe_leaves_the_run_running(self, project: Project) -> None:
        command = [*COMMAND, "train", "recipe.yaml", "--json"]
        with subprocess.Popen(
            command, cwd=project.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141
        assert newest(project).is_live()


class TestSteering:
    def test_a_detached_run_is_listed_paused_continued_stopped_and_resumed(
        self, project: Project
    ) -> None:
        folder = project.folder
        done = run(folder, "train", "recipe.yaml", "--detach", "--json")
        name = json.loads(done.stdout)["run"]
        directory = RunDirectory(folder / "adapters" / name)
        eventually(lambda: read_run(directory).state == "running")
        (row,) = [each for each in listed(folder) if each["run"] == name]
        assert row["state"] == "running"
        assert row["iters"] == 1_000_000
        assert run(folder, "runs").stdout.splitlines()[1].startswith(name)

        assert "  paused" in run(folder, "pause", name).stdout
        assert "already paused" in error_of(run(folder, "pause", name))
        assert len(run(folder, "resume", name).stdout.splitlines()) == 1
        assert "already running" in error_of(run(folder, "resume", name))
        assert "is training on this machine" in error_of(run(folder, "train", "recipe.yaml"))
        (folder / "mine.yaml").write_text("model: none\nadapter_path: mine\n")
        note, _ = run(folder, "train", "mine.yaml").stderr.splitlines()
        assert note.startswith("adapter_path mine isn't used; each run saves its adapter in")

        run(folder, "pause", name)
        assert "stopped at step" in run(folder, "stop", name).stdout
        assert "this run has already stopped" in error_of(run(folder, "stop", name))
        stopped = read_run(directory).view.step
        assert run(folder, "resume", name, "--detach").returncode == 0
        eventually(lambda: read_run(directory).view.step > stopped)
        assert run(folder.parent, "stop", name, "--dir", folder).returncode == 0

    @pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no such names")
    def test_a_folder_whose_name_is_not_utf8_is_trained_in_and_resumed(
        self, project: Project, tmp_path: Path
    ) -> None:
        folder = tmp_path / os.fsdecode(b"Gr\xf6\xdfe")
        shutil.copytree(project.folder / "data", folder / "data")
        recipe = (project.folder / "recipe.yaml").read_text()
        (folder / "recipe.yaml").write_text(recipe.replace(str(project.folder / "data"), "data"))
        strange = Project(folder, project.recipe)
        try:
            done = run(folder, "train", "recipe.yaml", "--detach", "--json")
            assert done.returncode == 0, done.stderr
            directory = RunDirectory(folder / "adapters" / json.loads(done.stdout)["run"])
            eventually(lambda: read_run(directory).view.step > 0)
            assert "stopped at step" in run(folder, "stop", directory.name).stdout
            stopped = read_run(directory).view.step
            assert run(folder, "resume", directory.name, "--detach").returncode == 0
            eventually(lambda: read_run(directory).view.step > stopped)
            (row,) = listed(folder)
            assert row["state"] == "running"
            assert "stopped at step" in run(folder, "stop", directory.name).stdout
        finally:
            strange.end_engines()

    def test_a_killed_engine_is_reported_with_the_remedy(self, project: Project) -> None:
        directory = project.start("save_every=50")
        eventually(lambda: read_run(directory).view.checkpoints)
        with watching(project, "attach", directory.name) as process:
            assert process.stdout is not None
            process.stdout.readline()
            project.end_engines()
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"mlxft-tui resume {directory.name} continues from step" in errors

    def test_a_finished_run_is_trained_further_under_its_own_name(self, project: Project) -> None:
        settings = ("--set", *SHORT, "lr_schedule.name=linear_schedule")
        done = run(project.folder, "train", "recipe.yaml", "--name", "first", *settings)
        assert done.stdout.startswith("run first ")
        done = run(project.folder, "resume", "first")
        assert "has finished its 4 steps; --iters trains it further" in error_of(done)
        done = run(project.folder, "resume", "first", "--iters", "4")
        assert "has trained 4 steps, so iters 4 adds none" in error_of(done)
        done = run(project.folder, "resume", "first", "--iters", "6", "--set", "rank=4")
        assert "lora_parameters.rank can't be changed" in error_of(done)
        done = run(project.folder, "resume", "first", "--iters", "6")
        assert "first continues from step 4 to 6. linear_schedule now spans" in done.stderr
        directory = RunDirectory(project.folder / "adapters" / "first")
        view, recipe = read_run(directory).view, directory.recipe()
        assert (view.step, view.iters, view.steps.count) == (6, 6, 6)
        rates = [
            each.learning_rate
            for each in events_of(directory)
            if isinstance(each, ev.StepFinished) and each.step > 4
        ]
        assert rates == [pytest.approx(rate_at(recipe, update)) for update in (4, 5)]


def listed(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(run(folder, "runs", "--json").stdout)
    return rows


class TestChat:
    def test_model_and_adapter_answer_on_stdout(self, project: Project) -> None:
        directory = project.start("iters=2", "learning_rate=1e-3")
        eventually(lambda: not directory.is_live())
        arguments = ("--prompt", "Turn on lamp 3", "--max-tokens", "5")
        base = run(project.folder, "chat", "--model", "model", *arguments)
        tuned = run(project.folder, "chat", "--adapter", directory.name, *arguments)
        for done in (base, tuned):
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.endswith("\n")

    def test_an_invalid_temperature_is_refused(self, project: Project) -> None:
        arguments = ("--model", "model", "--prompt", "Hello", "--temperature", "-1")
        assert "temperature is -1.0" in error_of(run(project.folder, "chat", *arguments))

    def test_a_prompt_that_is_not_utf8_is_refused(self, project: Project) -> None:
        prompt = b"caf\xe9".decode(errors="surrogateescape")
        done = run(project.folder, "chat", "--model", "model", "--prompt", prompt)
        assert done.returncode == 2
        assert "holds bytes that are not UTF-8" in done.stderr

    def test_a_folder_without_a_model_is_refused(self, project: Project) -> None:
        done = run(project.folder, "chat", "--model", "data", "--prompt", "Hello")
        assert "not an MLX model folder" in error_of(done)


class TestGenerate:
    def test_answers_are_written_in_the_order_of_the_prompts(self, project: Project) -> None:
        prompts = ["Turn on lamp 3", "Hello", "Turn on the lamp in the kitchen please"]
        lines = [{"prompt": prompts[0]}, {"messages": [{"role": "user", "content": prompts[1]}]}]
        file = project.folder / "prompts.jsonl"
        file.write_text(
            "".join(json.dumps(each) + "\n" for each in (*lines, {"prompt": prompts[2]}))
        )
        arguments = ("--model", "model", "--max-tokens", "5")
        done = run(project.folder, "generate", "--prompts", file, *arguments)
        assert done.returncode == 0, done
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert [each["prompt"] for each in answers] == prompts
        alone = run(project.folder, "chat", "--prompt", prompts[1], *arguments)
        assert answers[1]["answer"] + "\n" == alone.stdout

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "there is no prompt"),
            ('{"prompt": 3}\n', "this is no prompt"),
            ("{}\n", "no prompt"),
        ],
    )
    def test_a_file_without_prompts_is_refused(
        self, project: Project, text: str, problem: str
    ) -> None:
        (project.folder / "prompts.jsonl").write_text(text)
        done = run(project.folder, "generate", "--model", "model", "--prompts", "prompts.jsonl")
        assert problem in error_of(done)


class TestAdapters:
    def test_one_of_peft_is_used_by_any_path(self, project: Project) -> None:
        folder = project.folder
        adapter = make_peft_adapter(folder / "elsewhere" / "mine", folder / "model")
        asked = ("--prompt", "Turn on lamp 3", "--max-tokens", "3")
        whole = run(folder.parent, "chat", "--adapter", adapter, *asked, "--dir", folder)
        relative = run(folder, "chat", "--adapter", "elsewhere/mine", *asked)
        assert (whole.returncode, whole.stderr, whole.stdout) == (0, "", relative.stdout)
        evaluate = ("evaluate", "elsewhere/mine", "--split", "valid", "--limit", "2", "--json")
        done = run(folder, *evaluate, "--compare", "base", "--max-tokens", "3")
        base, tuned = (each["loss"] for each in json.loads(done.stdout)["scores"])
        assert abs(base - tuned) > 1e-3

    def test_a_damaged_one_starts_nothing(self, project: Project) -> None:
        folder = project.folder
        adapter = make_peft_adapter(folder / "half", folder / "model")
        file = adapter / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:500])
        before = listed(folder)
        start = ("train", "recipe.yaml", "--set", "resume_adapter_file=half")
        for command in (
            start,
            ("chat", "--adapter", "half", "--prompt", "Hello"),
            ("evaluate", "half"),
        ):
            assert "not a whole safetensors file" in error_of(run(folder, *command))
        assert listed(folder) == before

    def test_older_answers_are_kept_until_there_is_a_new_one(self, project: Project) -> None:
        older = project.folder / "answers.jsonl"
        older.write_text("older\n")
        (project.folder / "prompts.txt").write_text("Hello\n")
        arguments = ("generate", "--prompts", "prompts.txt", "--out", "answers.jsonl")
        error_of(run(project.folder, *arguments, "--model", "none"))
        assert older.read_text() == "older\n"
        assert "its folder doesn't exist" in error_of(
            run(project.folder, *arguments[:-1], "none/answers.jsonl", "--model", "model")
        )


class TestEvaluate:
    def test_base_and_run_are_compared_on_a_split(self, project: Project) -> None:
        directory = project.start("iters=2", "learning_rate=1e-3")
        eventually(lambda: not directory.is_live())
        arguments = ("evaluate", directory.name, "--split", "valid", "--max-tokens", "4")
        done = run(project.folder, *arguments, "--compare", "base", "--json")
        assert done.returncode == 0
        assert done.stderr.startswith("loading")
        assert done.stderr.index("evaluating 0%") < done.stderr.index("answering 0%")
        assert "\x1b" not in done.stderr
        found = json.loads(done.stdout)
        assert [each["side"] for each in found["scores"]] == ["base", directory.name]
        assert found["records"] == len(found["cases"]) == 8
        before, after = (each["loss"] for each in found["scores"])
        assert before > 0
        assert after != before
        assert set(found["exact_match_gain"]) == {"mean", "low", "high"}
        output = run(project.folder, *arguments, "--limit", "3").stdout
        cut, heading, header, _ = output.splitlines()
        assert cut.startswith("cut at 4 tokens: ")
        assert cut.endswith(" of 3 answers; raise --max-tokens")
        assert heading.startswith("valid: the first 3 of 8 records")
        assert "perplexity" in header
        kept = row_of(directory).evaluations
        assert [(each.against, each.records) for each in kept] == [("base", 8), ("", 3)]

    def test_a_split_without_records_is_an_error(self, project: Project) -> None:
        directory = project.start("iters=1")
        eventually(lambda: not directory.is_live())
        file = project.folder / "data" / "test.jsonl"
        done = run(project.folder, "evaluate", directory.name)
        assert "test.jsonl" in error_of(done, after_progress=True)
        file.write_text("")
        done = run(project.folder, "evaluate", directory.name)
        assert "the file is empty; write one JSON record" in error_of(done, after_progress=True)
        file.write_text("no JSON\n")
        done = run(project.folder, "evaluate", directory.name)
        assert "test.jsonl line 1:" in error_of(done, after_progress=True)


class TestSpeed:
    def test_prompt_and_generation_are_measured_separately(self, project: Project) -> None:
        lengths = ("--prompt-tokens", "16", "--generation-tokens", "4")
        arguments = ("speed", "--model", "model", "--runs", "2", *lengths)
        done = run(project.folder, *arguments, "--json")
        found = json.loads(done.stdout)
        # Beside busy processes some are repeated.
        assert 2 <= len(found["runs"]) <= 4
        lines = [line.split("  ")[0] for line in done.stderr.splitlines()]
        assert lines[0] == "2 runs of 16 prompt and 4 generated tokens, after a warm-up"
        at = lines.index("run 1")
        assert lines[at + 1].endswith("for the other 1 run")
        assert lines[at + 2] == "run 2"
        for name in ("prompt", "generation"):
            assert found[name]["mean"] > 0
            assert found[name]["deviation"] >= 0
        assert " ± " in run(project.folder, *arguments).stdout

    def test_a_prompt_beyond_the_context_length_is_refused(self, project: Project) -> None:
        arguments = ("speed", "--model", "model", "--prompt-tokens", "5000")
        assert "the model's context of 512" in error_of(
            run(project.folder, *arguments), after_progress=True
        )


class TestErrors:
    """Mistakes are found before an engine is started, and nothing is left behind."""

    @pytest.mark.parametrize(
        ("setting", "sentence"),
        [
            ("model=", "names no model"),
            ("data=nowhere", "this folder doesn't exist"),
            ("batch_size=0", "batch_size is 0; it must be a whole number from 1"),
            ("batch_size=64", "40 records are too few for a batch of 64"),
            ("iterz=5", "did you mean iters?"),
            ("iters", "write it as key=value"),
        ],
    )
    def test_a_setting(self, project: Project, setting: str, sentence: str) -> None:
        before = sorted((project.folder / "adapters").glob("*"))
        done = run(project.folder, "train", "recipe.yaml", "--set", setting)
        assert sentence in error_of(done)
        assert sorted((project.folder / "adapters").glob("*")) == before

    def test_a_broken_record_is_reported_by_line(self, project: Project, tmp_path: Path) -> None:
        (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt"\n')
        done = run(project.folder, "train", "recipe.yaml", "--set", f"data={tmp_path}")
        assert "train.jsonl line 2" in error_of(done)

    def test_a_missing_recipe(self, tmp_path: Path) -> None:
        assert "the recipe can't be read" in error_of(run(tmp_path, "train", "none.yaml"))

    def test_a_missing_run(self, tmp_path: Path) -> None:
        assert "no such run" in error_of(run(tmp_path, "stop", "nobody"))
        assert "there is no run yet" in error_of(run(tmp_path, "attach"))

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        assert "doesn't exist" in error_of(run(tmp_path, "runs", "--dir", "nowhere"))

    def test_a_misspelt_command(self, tmp_path: Path) -> None:
        assert "did you mean mlxft-tui train?" in error_of(run(tmp_path, "trian", "recipe.yaml"))

    def test_the_app_without_a_terminal(self, tmp_path: Path) -> None:
        assert "needs a terminal" in error_of(run(tmp_path))

    def test_a_terminal_that_is_too_small(self, tmp_path: Path) -> None:
        with Terminal(COMMAND, 39, 11, folder=tmp_path) as terminal:
            assert terminal.exit_code() == 1
            terminal.wait_for("40×12 or larger")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder(self, project: Project, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        done = run(tmp_path, "train", project.folder / "recipe.yaml")
        assert "can't be created there" in error_of(done)

    def test_an_adapters_folder_that_is_a_file(self, project: Project, tmp_path: Path) -> None:
        (tmp_path / "adapters").touch()
        done = run(tmp_path, "train", project.folder / "recipe.yaml")
        assert "can't be created there" in error_of(done)


class TestUnexpectedFailure:
    def test_the_traceback_goes_to_the_log_and_one_sentence_to_the_user(
        self, tmp_path: Path
    ) -> None:
        code = (
            "import sys; from mlxft_tui.cli.main import COMMANDS, main; "
            "COMMANDS['runs'] = lambda arguments: 1 / 0; sys.exit(main(['runs']))"
        )
        logs = tmp_path / "logs"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "MLXFT_LOGS": str(logs)},
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert str(logs / "mlxft-tui.log") in done.stderr
        assert "ZeroDivisionError" in (logs / "mlxft-tui.log").read_text()


class TestExport:
    def test_a_run_is_exported_and_compared(self, project: Project) -> None:
        directory = project.start("iters=2", "learning_rate=1e-3", "save_every=1")
        eventually(lambda: not directory.is_live())
        done = run(project.folder, "export", directory.name, "--to", "mlx", "--json")
        assert done.returncode == 0, done
        found = json.loads(done.stdout)
        assert found["folder"] == str(project.folder / f"{directory.name}-mlx")
        assert found["proof"]["same_answers"] == found["proof"]["answers"] == 8
        chat = ("--prompt", "Turn on lamp 3", "--max-tokens", "5")
        fused = run(project.folder, "chat", "--model", found["folder"], *chat)
        adapted = run(project.folder, "chat", "--adapter", directory.name, *chat)
        assert fused.stdout == adapted.stdout
        again = run(project.folder, "export", directory.name, "--to", "mlx")
        assert "choose another --out" in error_of(again, after_progress=True)
        missing = run(project.folder, "export", directory.name, "--to", "peft", "--checkpoint", "9")
        assert "saved are those of steps 1, 2" in error_of(missing)
