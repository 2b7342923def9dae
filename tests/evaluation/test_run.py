"""The sweep: numbers that do not depend on batches or processes, rows that survive interruptions, honest refusals."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from archives import png_metadata
from proxdm import imaging
from proxdm.checkpoints.load import Opened
from proxdm.checkpoints.portable import save_model
from proxdm.data import load_data
from proxdm.data.load import DataConfig
from proxdm.errors import NonFiniteError, OperatorError, OutputError
from proxdm.evaluation import EvaluationRow, evaluate, reference
from proxdm.evaluation import run as running
from proxdm.evaluation.run import ChunkSampler
from proxdm.grids import TimeGrid
from proxdm.metrics import features
from proxdm.metrics.features import load_extractor
from proxdm.metrics.frechet import fid_infinity, frechet_distance
from proxdm.metrics.kernel import kid
from proxdm.metrics.neighbours import copied, copying, nearest, precision_recall
from proxdm.metrics.registry import METRICS
from proxdm.metrics.statistics import ReferenceStatistics, StatisticsError, compute_statistics
from proxdm.metrics.wasserstein import sliced_wasserstein, w2
from proxdm.noise import SeededNoise
from proxdm.pixels import to_uint8
from proxdm.runtime.files import JsonLines
from proxdm.samplers import solve
from runs import ENVIRONMENT, run_python
from tiny_models import PROX, random_model

ALL = tuple(name for name, one in METRICS.items() if one.against != "classes")  # of models without classes


def heard(opened, plan, **options):
    """What an evaluation finds, and the lines that it says."""
    lines = []
    return evaluate(opened, plan, device="cpu", say=lines.append, **options), lines


def quiet(opened, plan, **options):
    return heard(opened, plan, **options)[0]


@pytest.fixture
def seen(monkeypatch):
    """All pictures that are drawn, by seed and number of the sample, as they go into the features."""
    found = {}
    draw = ChunkSampler.draw

    def watched(self, cell, number):
        images, nfe = draw(self, cell, number)
        for i, image in enumerate(images, number * self.size):
            found.setdefault((cell.seed, i), []).append(image.clone())
        return images, nfe

    monkeypatch.setattr(ChunkSampler, "draw", watched)
    return found


def direct(opened, steps, count, seed=0, name="prox-hybrid"):
    """Samples without the machinery of the evaluation."""
    noise = SeededNoise(seed, range(count), (1, 8, 8))
    return to_uint8(solve(name, opened.model, TimeGrid.uniform(steps), noise).x)


def test_every_metric_is_that_of_the_library_on_the_samples_of_the_library(prox, plan, seen):
    plan = dataclasses.replace(plan, metrics=ALL, samples=48, held="digits")
    (row,) = quiet(prox, plan).rows
    samples = torch.stack([seen[0, i][0] for i in range(48)])
    expected = direct(prox, 2, 48)
    assert (samples.int() - expected.int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in samples}) == 48
    data = load_data(DataConfig("digits", limit=100))
    ours, theirs = (images.double() / 127.5 - 1 for images in (samples.flatten(1), data.images.flatten(1)))
    fid = frechet_distance(ours.mean(0), torch.cov(ours.T), theirs.mean(0), torch.cov(theirs.T))
    extrapolated = fid_infinity(ours.float(), theirs.mean(0), torch.cov(theirs.T), smallest=24)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))[:100].sort().values
    copies = copying(ours, theirs, load_data("digits").images[order].flatten(1).double() / 127.5 - 1)
    near, quality = nearest(ours.float(), theirs.float(), 2), precision_recall(ours.float(), theirs.float())
    distance = kid(ours.float(), theirs.float(), subset_size=48)
    known = {"fid": fid, "w2": w2(ours, theirs), "sliced_w2": sliced_wasserstein(ours, theirs)}
    known |= {"fid_infinity": extrapolated.value, "fid_infinity_standard_error": extrapolated.standard_error}
    known |= {"nearest": float(near.distances[:, 0].mean()), "copied": copied(near)}
    known |= {"copy_ratio": copies[0], "copy_share": copies[1]}
    known |= {"kid": distance.value, "kid_standard_error": distance.standard_error}
    assert row.metrics == pytest.approx({**known, **quality._asdict()}, rel=1e-6)
    assert row.used == {name: [48, 100] for name in ALL}
    assert (row.nfe, row.steps, row.sampler, row.grid) == (2, 2, "prox-hybrid", "uniform(2)")


def test_metrics_of_pixels_ask_for_no_weights(prox, plan, monkeypatch):
    monkeypatch.setattr(features, "load_inception", lambda path: pytest.fail("the network was opened"))
    plan = dataclasses.replace(plan, metrics=("sliced-w2",), features="inception", inception_weights=Path("none.pth"))
    assert quiet(prox, plan).rows[0].features["name"] == "pixels"


def test_samples_are_the_same_to_the_last_bit_at_every_batch_size(prox, plan, seen):
    plan = dataclasses.replace(plan, chunk=None, samples=150)
    one, two, three = (quiet(prox, dataclasses.replace(plan, batch_size=n)).rows[0].metrics for n in (7, 64, 500))
    assert all(torch.equal(a, b) and torch.equal(b, c) for a, b, c in seen.values())
    assert one == two == three


def test_moments_are_of_the_samples_asked_for_alone_and_more_begin_with_the_same_ones(prox, plan, seen):
    (row,) = quiet(prox, dataclasses.replace(plan, samples=20)).rows
    assert len(seen) == 32  # the last chunk is drawn in full ...
    used = torch.stack([seen[0, i][0] for i in range(20)]).flatten(1).double() / 127.5 - 1
    digits = compute_statistics(load_data(DataConfig("digits", limit=100)), load_extractor("pixels", (1, 8, 8)))
    expected = frechet_distance(used.mean(0), torch.cov(used.T), digits.mu, digits.sigma)
    assert row.metrics["fid"] == pytest.approx(expected, rel=1e-7)  # ... and not counted
    quiet(prox, dataclasses.replace(plan, samples=33))
    assert all(torch.equal(*seen[0, i]) for i in range(20))


@pytest.mark.slow
def test_compiling_changes_the_rounding_only(plan, seen):
    own = Opened(random_model(PROX), "raw")  # it stays compiled
    (before,) = quiet(own, plan).rows
    found, lines = heard(own, dataclasses.replace(plan, compile=True))
    (after,) = found.rows
    assert "compiling the network" in lines
    assert (before.compile, after.compile) == (False, True)
    assert all((a.int() - b.int()).abs().max() <= 1 for a, b in seen.values())
    assert after.metrics["fid"] == pytest.approx(before.metrics["fid"], rel=1e-3)


def test_seeds_give_rows_of_their_own(prox, plan, seen):
    rows = quiet(prox, dataclasses.replace(plan, seeds=2, seed=5)).rows
    assert [row.seed for row in rows] == [5, 6]
    assert rows[0].metrics["fid"] != rows[1].metrics["fid"]
    assert not torch.equal(seen[5, 0][0], seen[6, 0][0])


def test_all_samplers_that_fit_and_a_step_that_is_undefined(prox, score, plan):
    found, lines = heard(prox, dataclasses.replace(plan, samplers=("all",), steps=(5, 12)))
    names = ("prox-hybrid", "prox-backward", "prox-ode", "prox-exponential")
    cells = [(name, steps) for name in names for steps in (5, 12) if (name, steps) != ("prox-backward", 5)]
    assert [(row.sampler, row.steps) for row in found.rows] == cells
    (skipped,) = found.skipped
    assert (skipped.sampler, skipped.steps) == ("prox-backward", 5)
    assert f"skipped prox-backward at N = 5: {skipped.reason}" in lines
    assert "defined for gamma < 2 only" in skipped.reason
    (row,) = quiet(score, plan).rows
    assert (row.sampler, row.grid, row.nfe) == ("multistep", "rho(2, end=0.03, rho=7)", 2)
    with pytest.raises(OperatorError, match=r"needs a model with \.score"):
        quiet(prox, dataclasses.replace(plan, samplers=("ode-euler",)))


@pytest.mark.parametrize(
    "text, nfe, operator", [("prox-hybrid", 2, "posterior-mean"), ("heun", 3, None), ("ddim(eta=0.5)", 2, None)]
)
def test_other_samplers_on_a_score_model(score, plan, tmp_path, text, nfe, operator):
    plan = dataclasses.replace(plan, samplers=(text,))
    (row,) = quiet(score, plan, out=tmp_path).rows
    assert (row.sampler, row.nfe, row.operator) == (text, nfe, operator)
    assert (tmp_path / row.picture).is_file()
    assert quiet(score, plan, out=tmp_path).reused == 1


def test_warnings_and_the_estimate(prox, plan):
    _, lines = heard(prox, dataclasses.replace(plan, steps=(2, 7)), progress=True)
    assert sum("7 of the 7 steps" in line or "outside what the network was trained on" in line for line in lines) == 1
    assert any("40 samples leave the covariance of 64 features singular" in line for line in lines)
    assert any("for 2 rows of 40 samples, 16 at a time" in line for line in lines)
    with pytest.warns(UserWarning, match="singular"):
        evaluate(prox, plan, device="cpu")


def test_rows_are_appended_and_not_measured_twice(prox, plan, tmp_path, seen):
    first = quiet(prox, plan, out=tmp_path)
    (record,) = JsonLines(tmp_path / "results.jsonl").records()
    assert EvaluationRow.of_record(record).record() == json.loads(json.dumps(first.rows[0].record())) == record
    picture = tmp_path / record["picture"]
    shown = png_metadata(picture)
    assert (shown["sampler"], shown["metrics"]) == ("prox-hybrid", record["metrics"])
    expected = imaging.grid(torch.stack([seen[0, i][0] for i in range(40)]))
    assert np.array_equal(np.asarray(Image.open(picture)), expected)
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"results.jsonl", record["picture"]}
    assert not (tmp_path / running.PARTIAL).exists()
    seen.clear()
    again = quiet(prox, dataclasses.replace(plan, steps=(2, 3), batch_size=999), out=tmp_path)
    assert (again.reused, again.rows[0].record()) == (1, record)
    assert set(seen) == {(0, i) for i in range(48)}
    assert len(JsonLines(tmp_path / "results.jsonl").records()) == 2
    # A metric that the row lacks is measured; so is another reference.
    quiet(prox, dataclasses.replace(plan, metrics=("fid", "sliced-w2")), out=tmp_path)
    quiet(prox, dataclasses.replace(plan, reference=DataConfig("digits", limit=90)), out=tmp_path)
    assert len(JsonLines(tmp_path / "results.jsonl").records()) == 4


@pytest.mark.parametrize("metrics", [("fid",), ALL])
def test_an_interrupted_row_goes_on_where_it_was(prox, plan, tmp_path, monkeypatch, metrics):
    plan = dataclasses.replace(plan, metrics=metrics, samples=90, held="digits")
    (expected,) = quiet(prox, plan).rows
    drawn, draw = [], ChunkSampler.draw

    def failing(self, cell, number):
        drawn.append(number)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        return draw(self, cell, number)

    monkeypatch.setattr(ChunkSampler, "draw", failing)
    with pytest.raises(KeyboardInterrupt):
        quiet(prox, plan, out=tmp_path)
    assert JsonLines(tmp_path / "results.jsonl").records() == []
    (row,) = quiet(prox, dataclasses.replace(plan, batch_size=32), out=tmp_path).rows
    assert drawn == [0, 1, 2, 3, 3, 4, 5]
    assert (row.metrics, row.nfe) == (expected.metrics, 2)
    assert not (tmp_path / running.PARTIAL).exists()


def test_samples_that_are_not_finite_are_an_error_and_no_row(prox, plan, tmp_path, monkeypatch):
    quiet(prox, plan, out=tmp_path)
    before = (tmp_path / "results.jsonl").read_bytes()
    monkeypatch.setattr(type(prox.model), "prox", lambda self, x, t, lam: x * float("nan"))
    with pytest.raises(NonFiniteError, match=r"samples 0 to 15 on uniform\(3\): 16 of 16 samples") as caught:
        quiet(prox, dataclasses.replace(plan, steps=(3,)), out=tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_statistics_as_reference(prox, plan, tmp_path):
    data = load_data("digits")
    path = tmp_path / "digits.npz"
    statistics = compute_statistics(data, load_extractor("pixels", (1, 8, 8)))
    statistics.save(path)
    (ours,) = quiet(prox, dataclasses.replace(plan, reference=path)).rows
    (theirs,) = quiet(prox, dataclasses.replace(plan, reference=DataConfig("digits"))).rows
    assert ours.metrics == theirs.metrics
    assert (ours.reference["kind"], ours.reference["n"], ours.used["fid"]) == ("statistics", 1797, [40, 1797])
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, mu=statistics.mu, sigma=statistics.sigma)
    _, lines = heard(prox, dataclasses.replace(plan, reference=foreign))
    assert any("does not say how it was made" in line for line in lines)


def save_statistics(folder, **changes):
    stamp = {"n": 100, "backend": "pixels", "weights": "", "resize": "none", "shape": (1, 8, 8), **changes}
    dim = stamp.pop("dim", 64)
    ReferenceStatistics(np.zeros(dim), np.eye(dim), **stamp).save(folder / "s.npz")
    return str(folder / "s.npz")


def test_statistics_of_another_route_are_refused_before_sampling_unless_forced(prox, plan, tmp_path, seen):
    other = dataclasses.replace(plan, reference=save_statistics(tmp_path, backend="mine"))
    small = dataclasses.replace(plan, reference=save_statistics(tmp_path / "small", dim=3), force=True)
    for one, message in ((other, "different routes: features pixels and mine"), (small, "cannot be compared")):
        with pytest.raises(StatisticsError, match=message):
            quiet(prox, one)
    assert not seen
    found, lines = heard(prox, dataclasses.replace(other, force=True))
    assert "different routes: features pixels and mine" in found.rows[0].reference["forced"]
    assert any("their distance means little" in line for line in lines)
    (right,) = quiet(prox, dataclasses.replace(small, reference=save_statistics(tmp_path / "right"))).rows
    assert "forced" not in right.reference


@pytest.mark.parametrize("metric", [name for name, one in METRICS.items() if one.against != "moments"])
def test_metrics_that_need_images_refuse_statistics(prox, plan, tmp_path, metric):
    plan = dataclasses.replace(plan, reference=save_statistics(tmp_path), metrics=("fid", metric))
    with pytest.raises(StatisticsError, match=f"{metric} needs images"):
        quiet(prox, plan)


def test_references_that_do_not_fit(prox, plan, tmp_path):
    np.savez(tmp_path / "rgb.npz", images=np.zeros((4, 3, 8, 8), np.uint8))
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    for name, message in (("rgb.npz", "3x8x8.*1x8x8"), ("broken.npz", "cannot be read")):
        with pytest.raises(StatisticsError, match=message):
            quiet(prox, dataclasses.replace(plan, reference=tmp_path / name))


def test_results_that_are_none_stay_as_they_are(prox, plan, tmp_path):
    (tmp_path / "results.jsonl").write_text("precious\n")
    with pytest.raises(OutputError, match=r"line 1 of .* is not a JSON object"):
        quiet(prox, plan, out=tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == "precious\n"


def test_statistics_of_a_data_set_are_kept(prox, plan, tmp_path, monkeypatch):
    torch.jit.script(torch.nn.Flatten()).save(tmp_path / "flat.pt")
    (tmp_path / "flat.pt.json").write_text('{"input_range": [0, 1], "channels": 1}')
    plan = dataclasses.replace(plan, features=str(tmp_path / "flat.pt"))
    (first,) = quiet(prox, plan, out=tmp_path / "out").rows
    monkeypatch.setattr(reference, "compute_statistics", lambda *a, **k: pytest.fail("computed again"))
    (second,) = quiet(prox, plan, out=tmp_path / "out", overwrite=True).rows
    assert second.metrics == first.metrics
    assert first.features["name"] == "flat"


SCRIPT = """
import json, sys, torch
from pathlib import Path
from proxdm.evaluation import EvaluationPlan, evaluate
options = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(sys.argv[2]).items()}
plan = EvaluationPlan(**options)
found = evaluate(sys.argv[1], plan, out=Path(sys.argv[3]), device="cpu", say=lambda line: None)
torch.distributed.destroy_process_group()
"""


def script_options(plan, **values):
    """A plan, and the same as JSON."""
    plan = dataclasses.replace(plan, samples=90, **values)
    names = ("steps", "samples", "features", "metrics", "chunk", "batch_size", "held")
    return plan, json.dumps({name: getattr(plan, name) for name in names})


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(prox, plan, tmp_path):
    plan, options = script_options(plan, steps=(2, 3), metrics=ALL, held="digits")
    model = str(save_model(prox.model, tmp_path / "model.safetensors"))
    one = quiet(model, plan, out=tmp_path / "one").rows
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run_python(tmp_path, *launcher, "script.py", model, options, "two")
    two = [EvaluationRow.of_record(row) for row in JsonLines(tmp_path / "two" / "results.jsonl").records()]
    assert [row.processes for row in two] == [2, 2]
    for ours, theirs in zip(one, two, strict=True):
        assert theirs.metrics == pytest.approx(ours.metrics, rel=1e-8)
        a, b = (Image.open(tmp_path / folder / row.picture) for folder, row in (("one", ours), ("two", theirs)))
        assert np.array_equal(np.asarray(a), np.asarray(b))
    assert not (tmp_path / "two" / running.PARTIAL).exists()


KILLED = """
import os, signal, sys
from proxdm.evaluation.run import ChunkSampler
draw = ChunkSampler.draw

def dying(self, cell, number):
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(self, cell, number)

ChunkSampler.draw = dying
"""


@pytest.mark.slow
def test_a_killed_process_loses_one_batch_at_most(prox, plan, tmp_path, monkeypatch):
    plan, options = script_options(plan, metrics=("fid", "w2"), batch_size=32)
    model = str(save_model(prox.model, tmp_path / "model.safetensors"))
    (expected,) = quiet(model, plan).rows
    (tmp_path / "script.py").write_text(KILLED + SCRIPT)
    command = [sys.executable, "script.py", model, options, "out"]
    assert subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, timeout=300).returncode == -9
    drawn, draw = [], ChunkSampler.draw
    monkeypatch.setattr(ChunkSampler, "draw", lambda self, cell, n: drawn.append(n) or draw(self, cell, n))
    (row,) = quiet(model, plan, out=tmp_path / "out").rows
    assert drawn == [4, 5]
    assert row.metrics == expected.metrics
