"""`proxdm completion`: a script that completes verbs and options in bash, zsh or fish."""

from __future__ import annotations

import re
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from proxdm.cli import VERBS, call

NESTED = {"prior": ("fit", "show"), "features": ("train", "info")}
"""Verbs with verbs of their own."""

HEAD = {
    "bash": '# eval "$(proxdm completion bash)", or write it to a file in ~/.local/share/bash-completion/completions',
    "zsh": '# eval "$(proxdm completion zsh)" in ~/.zshrc, after compinit',
    "fish": "# proxdm completion fish > ~/.config/fish/completions/proxdm.fish",
}


@dataclass(frozen=True)
class Completion:
    """Print a script that completes verbs and their options; files complete as ever."""

    shell: Annotated[Positional[Literal["bash", "zsh", "fish"]], arg(metavar="bash|zsh|fish")]  # The shell.


def run(options: Completion, prog: str) -> int:
    """Run the verb and return the exit status."""
    shell = options.shell
    words = {verb: (*NESTED.get(verb, ()), *options_of(verb)) for verb in VERBS}
    lines = fish(words) if shell == "fish" else bash(words)
    if shell == "zsh":
        lines = ["autoload -Uz bashcompinit && bashcompinit", *lines]
    print("\n".join([HEAD[shell], *lines]))
    return 0


def options_of(verb: str) -> list[str]:
    """Return the options in the help of a verb, and of its own verbs."""
    found: list[str] = []
    for nested in ((), *((one,) for one in NESTED.get(verb, ()))):
        written = StringIO()
        with redirect_stdout(written), redirect_stderr(StringIO()), suppress(SystemExit):
            call(verb, [*nested, "--help"])
        found += re.findall(r"(?<![\w-])--[a-z][\w.-]*", written.getvalue())
    return list(dict.fromkeys(["--help", *found]))


def bash(words: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the lines of the script for bash."""
    cases = [f'    {verb}) words="{" ".join(options)}" ;;' for verb, options in words.items()]
    return [
        "_proxdm() {",
        '  local words current="${COMP_WORDS[COMP_CWORD]}"',
        '  case "${COMP_WORDS[1]}" in',
        *cases,
        "  esac",
        f'  [ "$COMP_CWORD" -eq 1 ] && words="{" ".join(words)} --help --version"',
        '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
        "}",
        "complete -o default -F _proxdm proxdm",
    ]


def fish(words: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the lines of the script for fish."""
    lines = []
    for verb, options in words.items():
        lines.append(f"complete -c proxdm -n __fish_use_subcommand -a {verb} -d '{VERBS[verb]}'")
        for option in options:
            given = f"-l {option[2:]}" if option.startswith("--") else f"-a {option}"
            lines.append(f"complete -c proxdm -n '__fish_seen_subcommand_from {verb}' {given}")
    return lines
