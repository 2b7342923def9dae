"""README.md and the pages of docs: every command is one that our command line takes, every block of Python parses."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pages import asked, commands
from proxdm.cli import VERBS, parse
from proxdm.cli import features as features_verb
from proxdm.cli import prior as prior_verb
from proxdm.cli.train import Request
from proxdm.training.automatic import seconds_of
from runs import run_python

ROOT = Path(__file__).parents[1]
PLACEHOLDERS = {"PRESET", "FILE", "FOLDER", "DATA", "MODEL", "NAME", "--help"}


def found(page: str) -> list[list[str]]:
    text = (ROOT / page).read_text(encoding="utf-8")
    cut = [words[: words.index("&&")] if "&&" in words else words for words in commands(text)]
    complete = [words for words in cut if len(words) > 2 and not PLACEHOLDERS & set(words)]
    return [words for words in complete if words[1:] != ["features", "train"]]  # running text speaks of the verb


PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("words", [words for page in PAGES for words in found(page)], ids=" ".join)
def test_every_command_parses(words, succeeds):
    verb, *arguments = words[1:]
    assert verb in VERBS
    if arguments[:1] == ["pictures/"]:  # its configuration would be chosen by timing: what else is said is parsed
        early = parse(Request, arguments[1:], "p", partly=True)
        assert seconds_of(early.budget) > 0
        place = arguments.index("--budget")
        arguments = ["digits-score", *arguments[1:place], *arguments[place + 2 :]]
        arguments = [word for word in arguments if word != "--resume"]  # there is no run to read
    if verb == "features":
        assert arguments[0] == "train"
        parse(features_verb.Train, arguments[1:], "p")
    elif verb == "prior":
        parse(prior_verb.Priors, arguments, "p")
    else:
        asked(verb, arguments)
    if verb == "download":
        succeeds("download", *arguments, "--list")  # looks at the names, and fetches nothing


def test_the_pages_have_commands():
    assert len(found("README.md")) >= 3
    for page in ("docs/results.md", "docs/training.md", "docs/integrations.md"):
        assert len(found(page)) > 10


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_and_links(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        ast.parse(block)
    for link in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert link.startswith("http") or ((ROOT / page).parent / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/concepts.md", "docs/howto.md"])
def test_python_blocks_run(page, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (tmp_path / "page.py").write_text("\n".join(blocks))
    run_python(tmp_path, "page.py")


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    quick = ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer,myst.xref_missing,ref.python"]
    run_python(tmp_path, "-m", "sphinx", "-W", "--keep-going", "-q", *quick, ROOT / "docs", tmp_path / "site")
