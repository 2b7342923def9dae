"""The commands that a page of the documentation shows, to be parsed by our command line."""

from __future__ import annotations

import re
import shlex


def commands(text: str) -> list[list[str]]:
    """Every command of ours: in blocks, comments left out, and in running text; also those behind a launcher."""
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    spans = [span for span in re.findall(r"`([^`\n]+)`", text) if span.startswith("proxdm ")]
    found = [shlex.split(line, comments=True) for line in [*lines, *spans]]
    return [words[words.index("proxdm") :] for words in found if "proxdm" in words]
