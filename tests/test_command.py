"""The command line itself: help without torch, one clear line for an error, lines for people and for machines."""

import json
import logging
import sys
from datetime import datetime

import pytest
import typer
from commands import run_new as run
from datasets import write_dataset
from in_process import train_here
from preparing import run as prepare_here
from preparing import write_images

from gan_distributed import command
from gan_distributed.__main__ import VERBS as ALL_VERBS
from gan_distributed.data.manifest import load_manifest
from gan_distributed.errors import DataError

VERBS = ["prepare", "train", "generate", "export", "inspect", "runs", "submit", "plan", "schema"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_needs_neither_torch_nor_ray(verb):
    program = (
        "import sys, runpy\n"
        f"sys.argv = ['gan-distributed', '{verb}', '--help']\n"
        "try:\n    runpy.run_module('gan_distributed', run_name='__main__')\n"
        "except SystemExit as end:\n    code = end.code\n"
        "slow = {'torch', 'ray', 'torchvision'} & sys.modules.keys()\n"
        "sys.exit(f'imported {slow}' if slow else code)\n"
    )
    ended = run([sys.executable, "-c", program])
    assert ended.returncode == 0, ended.stderr
    assert f"gan-distributed {verb}" in ended.stdout


def test_schema_describes_the_sections():
    ended = run([sys.executable, "-m", "gan_distributed", "schema"])
    schema = json.loads(ended.stdout)
    assert "training" in schema["properties"]
    assert schema["$defs"]["AdamConfig"]["properties"]["beta1"]["description"]


def test_errors_are_one_line_on_stderr():
    ended = run([sys.executable, "-m", "gan_distributed", "train", "--config", "/nowhere.yaml"])
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: /nowhere.yaml: cannot be read")
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture
def quiet():
    """Give back what a command takes of this process, and its words."""
    logger, hook = logging.getLogger("gan_distributed"), sys.excepthook
    before = logger.handlers, logger.level, logger.propagate
    words = sys.argv
    yield
    sys.argv = words
    command.log_to_stderr()
    logger.handlers, logger.level, logger.propagate = before
    sys.excepthook = hook


def events(text: str) -> list[dict]:
    found = [json.loads(line) for line in text.splitlines()]
    for event in found:
        assert list(event)[:6] == ["time", "level", "run", "rank", "kimg", "message"]
        assert datetime.fromisoformat(event["time"]).tzinfo is not None
    return found


def test_what_is_said_and_what_is_logged_go_one_way(capsys, quiet):
    def speak() -> str:
        command.about(run="r", kimg=12.3456)
        command.say("warning: few images", rank=0)
        command.say("rank 1: its stacks:\nthread 7")
        logging.getLogger("gan_distributed.data").warning("a port %d", 80)
        logging.getLogger("gan_distributed.data").info("told: quietly")
        return capsys.readouterr().err

    command.log_to_stderr()
    assert speak() == "warning: few images\nrank 1: its stacks:\nthread 7\nwarning: a port 80\ntold: quietly\n"
    command.log_to_stderr("json")
    found = [{name: event[name] for name in ("level", "rank", "message")} for event in events(speak())]
    assert found == [
        {"level": "warning", "rank": 0, "message": "few images"},
        {"level": "info", "rank": None, "message": "rank 1: its stacks:\nthread 7"},
        {"level": "warning", "rank": None, "message": "a port 80"},
        {"level": "info", "rank": None, "message": "told: quietly"},
    ]
    command.say("more")
    assert [(event["run"], event["kimg"]) for event in events(capsys.readouterr().err)] == [("r", 12.346)]


def test_a_bug_is_one_event_with_its_traceback(capsys, quiet):
    command.log_to_stderr("json")
    try:
        raise ZeroDivisionError("no\nway")
    except ZeroDivisionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    (event,) = events(capsys.readouterr().err)
    assert (event["level"], event["message"]) == ("error", "ZeroDivisionError: no\nway")
    assert "test_a_bug_is_one_event" in event["traceback"]


def test_training_in_json_tells_run_rank_and_kimg(tmp_path, capsys, quiet):
    write_dataset(str(tmp_path / "data"))
    command.log_to_stderr("json")
    train_here(tmp_path, str(tmp_path / "data"), run_id="named", as_json=True)
    told = capsys.readouterr()
    ended = json.loads(told.out)
    assert (ended["run"], ended["status"]) == (str(tmp_path / "runs" / "named"), "done")
    assert ended["seen_images"] == ended["record"]["seen_images"] == 96
    found = events(told.err)
    assert {event["run"] for event in found} == {"named"}
    saved = [event for event in found if event["message"].startswith("saved checkpoint")]
    assert saved[-1]["rank"] == 0
    assert saved[-1]["kimg"] == 0.096
    assert found[-1]["message"].startswith("run: ")


def test_preparing_in_json_tells_the_data_set(tmp_path, capsys, quiet):
    write_images(tmp_path / "photos", {f"{index}.png": index for index in range(3)})
    command.log_to_stderr("json")
    prepare_here(tmp_path / "photos", tmp_path / "set", as_json=True)
    told = capsys.readouterr()
    assert {event["run"] for event in events(told.err)} == {"set"}
    facts = json.loads(told.out)
    assert facts.pop("fingerprint") == load_manifest(str(tmp_path / "set")).fingerprint
    assert facts == {
        "did": "prepared",
        "dest": str(tmp_path / "set"),
        "images": 3,
        "resolution": 16,
        "channels": 3,
        "classes": 0,
        "quarantined": 0,
        "duplicates": 0,
        "bytes": sum(path.stat().st_size for path in (tmp_path / "set" / "shards").iterdir()),
    }


def speaking(*words: str) -> int:
    """The exit code of a verb that warns, tells, details, and may fail."""

    def speaks(fails: bool = False) -> None:
        command.say("warning: few images")
        command.say("one more")
        logging.getLogger("gan_distributed.data").debug("a detail")
        if fails:
            raise DataError("a cause")

    sys.argv = ["speaks", *words]
    with pytest.raises(SystemExit) as ended:
        command.run(speaks)
    return ended.value.code


def test_how_much_is_told(capsys, quiet):
    for words, told in (
        ([], ["warning: few images", "one more"]),
        (["-q"], ["warning: few images"]),
        (["--verbose"], ["warning: few images", "one more", "debug: a detail"]),
    ):
        assert speaking(*words) == 0
        assert capsys.readouterr().err.splitlines() == told
    assert speaking("--fails", "--quiet") == 2
    assert capsys.readouterr().err.splitlines() == ["warning: few images", "error: a cause"]
    assert speaking("--fails", "-v") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[3:5] == ["error: a cause", "debug: Traceback (most recent call last):"]
    assert lines[-1] == "gan_distributed.errors.DataError: a cause"
    command.log_to_stderr()
    assert speaking("-q", "-v") == 2
    assert capsys.readouterr().err == "error: --quiet and --verbose: give one of them\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fail"], "no such option: --fail (Possible options: --fails"),
        (["--log-format", "yaml"], "invalid value for '--log-format'"),
        (["more"], "got unexpected extra argument"),
    ],
)
def test_wrong_words_are_one_line(words, told, capsys, quiet):
    command.log_to_stderr()
    assert speaking(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")
    assert line.endswith(" --help`)")


def test_an_error_that_knows_no_command_is_one_line(capsys, quiet):
    def speaks() -> None:
        raise typer.BadParameter("so it is not")

    command.log_to_stderr()
    sys.argv = ["speaks"]
    with pytest.raises(SystemExit) as ended:
        command.run(speaks)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: invalid value: so it is not")


def test_every_verb_takes_how_much_is_told():
    group = typer.main.get_command(command.application(*ALL_VERBS, name="gan-distributed"))
    for verb in group.commands.values():
        options = {option for parameter in verb.params for option in parameter.opts}
        assert {"-q", "--quiet", "-v", "--verbose", "--log-format"} <= options
