"""docs/reproduction.md: every name and number is the code's; its commands are read with those of all pages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from pages import commands
from proxdm.checkpoints.hub import OFFICIAL_MODELS, OFFICIAL_STATS
from proxdm.cli import parse
from proxdm.cli.evaluate import Evaluate
from proxdm.cli.sample import Sample
from proxdm.data.known import DATASETS
from proxdm.experiments.reproduce import BLOCKS, Pictures, Reproduction, Sweep
from proxdm.presets import PRESETS, get_preset

PAGE = Path(__file__).parents[1] / "docs" / "reproduction.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]


def test_its_commands_are_of_every_step():
    found = [words for words in commands(TEXT) if len(words) > 2 and "PRESET" not in words]
    assert len(found) > 40
    assert {words[1] for words in found} >= {"reproduce", "train", "evaluate", "sample", "download", "stats"}
    assert all(words[2] in PRESETS for words in found if words[1] == "train")


def test_every_name_exists():
    spans = set(re.findall(r"`([^`\n]+)`", TEXT))
    experiments = {one.name for block in BLOCKS.values() for one in block.experiments}
    named = {span for span in spans if re.fullmatch(r"(mnist|cifar10|celebahq|digits|fashion-mnist)-[a-z0-9-]+", span)}
    assert named <= {*PRESETS, *experiments, *DATASETS}
    flags = {span.split()[0] for span in spans if span.startswith("--")}
    known = {"--" + name.replace("_", "-") for name in Reproduction.__dataclass_fields__}
    assert flags <= known
    files = set(re.findall(r"official/(\w+\.(?:pth|npz))", TEXT))
    assert files <= {*OFFICIAL_MODELS.values(), *(Path(name).name for name in OFFICIAL_STATS.values())}


def test_every_training_is_in_the_table_with_its_numbers():
    table = {row[1]: row for row in ROWS if row[1].startswith("`proxdm train ")}
    presets = [name for block in BLOCKS.values() for name in block.presets]
    assert {command.strip("`").split()[2] for command in table} == set(presets)
    assert len(table) == 10
    for command, row in table.items():
        config = get_preset(command.strip("`").split()[2])
        assert row[2:4] == [f"{config.training.steps:,}", f"{config.model.parameter_count():,}"]


def test_every_evaluation_is_in_the_table_with_its_numbers():
    verbs = ("`proxdm evaluate", "`proxdm sample")
    table = {row[0].strip("`"): row for row in ROWS if row[2:] and row[2].startswith(verbs)}
    experiments = [one for block in BLOCKS.values() for one in block.experiments if isinstance(one, Sweep | Pictures)]
    assert list(table) == [one.name for one in experiments]
    for one in experiments:
        words = shlex.split(table[one.name][2].strip("`"))
        if isinstance(one, Sweep):
            options = parse(Evaluate, words[2:], "p")
            assert (options.samplers, options.steps, options.samples) == ((one.sampler,), one.steps, one.samples)
            assert options.reference == f"stats/{get_preset(one.preset).data.name}.npz"
            assert table[one.name][3] == (", ".join(f"{value:g}" for value in one.paper.values()) or "–")
        else:
            drawn = parse(Sample, words[2:], "p")
            assert (drawn.sampler, drawn.samples) == (one.sampler, one.samples)
            assert drawn.steps in one.steps
            others = re.findall(r"\d+", TEXT.split("and so for ")[1].split(".")[0])
            assert {10, *map(int, others)} == set(one.steps)
        assert Path(words[2]).name == one.preset


def test_its_python_runs_as_far_as_it_needs_no_download():
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    imports, call = block.strip().rsplit("\n", 1)
    names: dict[str, object] = {}
    exec(compile(imports, str(PAGE), "exec"), names)
    calls = []
    names |= {"encode_pictures": lambda *a, **k: calls.append((a, k)), "load_vae": lambda device: device}
    exec(compile(call, str(PAGE), "exec"), names)
    ((folder, target, device), more), *rest = calls
    assert not rest
    assert (folder, target.name, device, more) == (Path("celeba-hq"), "celebahq-latents.npy", "cuda", {"size": 256})
