"""README.md and docs/results.md: every command is one that our command line takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages import asked, commands
from proxdm.cli import VERBS, parse
from proxdm.cli import features as features_verb
from proxdm.cli import prior as prior_verb

ROOT = Path(__file__).parents[1]
PLACEHOLDERS = {"PRESET", "FILE", "--help"}


def found(page: str) -> list[list[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    complete = [words for words in commands(text) if len(words) > 2 and not PLACEHOLDERS & set(words)]
    return [words for words in complete if words[1:] != ["features", "train"]]  # running text speaks of the verb


@pytest.mark.parametrize("words", [*found("README.md"), *found("docs/results.md")], ids=" ".join)
def test_every_command_parses(words):
    verb, *arguments = words[1:]
    assert verb in VERBS
    if verb == "features":
        assert arguments[0] == "train"
        parse(features_verb.Train, arguments[1:], "p")
    elif verb == "prior":
        parse(prior_verb.Priors, arguments, "p")
    else:
        asked(verb, arguments)


def test_the_pages_have_commands():
    assert len(found("README.md")) > 10
    assert len(found("docs/results.md")) > 10
