"""Help: what pages say is there, each verb has an example that parses, and the bare command shows the four steps."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer
from commands import run_new as run

from gan_distributed import command
from gan_distributed.__main__ import VERBS, WORKFLOW

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What pages leave to the reader, in one word or in brackets.
_OMITTED = re.compile(r"[\[\]…|]|\\\n")


def known_options() -> dict[str, set[str]]:
    """Of each verb, from the command line itself."""
    group = typer.main.get_command(command.application(*VERBS, name="gan-distributed"))
    return {
        name: {option for parameter in verb.params for option in parameter.opts if option.startswith("--")} | {"--help"}
        for name, verb in group.commands.items()
    }


def commands_in(text: str) -> list[list[str]]:
    """The words of each command of ours in a page or a help text."""
    plain = _OMITTED.sub(" ", text)
    found = re.findall(r"(?:gan-distributed|python -m gan_distributed[. ])\s*([a-z][a-z-]*(?:[^\n`;#]*))", plain)
    return [line.split() for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_verbs_and_options_that_are_there(page):
    known = known_options()
    for verb, *words in commands_in(page.read_text()):
        # Prose goes on behind the name; other verbs may be announced, not used with options.
        options = {word.split("=")[0].rstrip(".,:)") for word in words if word.startswith("--")}
        if options:
            name = verb.replace("_", "-")
            assert name in known, f"{page.name}: {verb}"
            assert options <= known[name], f"{page.name}: {verb} {sorted(options - known[name])}"


def test_every_verb_has_an_example_that_parses():
    group = typer.main.get_command(command.application(*VERBS, name="gan-distributed"))
    steps = [line.split("gan-distributed ")[1] for line in WORKFLOW.splitlines() if "gan-distributed " in line]
    examples = re.findall(r"Example: gan-distributed (.*)", "\n".join(function.__doc__ or "" for function in VERBS))
    # All but schema, which takes nothing.
    assert {line.split()[0] for line in examples} == group.commands.keys() - {"schema"}
    assert len(steps) == 4
    for line in [*examples, *steps]:
        verb, *words = shlex.split(line)
        group.commands[verb].make_context(verb, words)


def test_without_words_the_four_steps_are_shown():
    ended = run([sys.executable, "-m", "gan_distributed"])
    shown = ended.stdout + ended.stderr
    assert [line.split()[:3] for line in shown.splitlines() if re.match(r"  \d  gan-distributed", line)] == [
        [str(number), "gan-distributed", verb]
        for number, verb in enumerate(("prepare", "train", "evaluate", "generate"), start=1)
    ]
