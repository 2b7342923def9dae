"""The table of metrics: what entries say, and that a new one is computed and shown by the path of all others."""

from __future__ import annotations

import pytest
import torch

from proxdm.data import ImageData, to_model_range
from proxdm.evaluation.accumulate import Accumulator, Limits
from proxdm.evaluation.reference import Reference
from proxdm.metrics.features import load_extractor
from proxdm.metrics.registry import METRICS, Value, metric, metric_of, metrics_help, title_of, value_of


@pytest.fixture
def toy(monkeypatch):
    """A metric as somebody else would write it, taken out of the table afterwards."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @metric("spread", {"spread": Value("ratio of spreads", "higher"), "gap": Value("gap")}, least=2, most=6)
    def _spread(samples: torch.Tensor, reference: torch.Tensor) -> tuple[float, float]:
        """Spread against that of the data."""
        assert (len(samples), len(reference)) == (6, 6)
        return float(samples.std() / reference.std()), float(samples.mean() - reference.mean())

    return METRICS.find("spread")


@pytest.fixture
def material(generator):
    """What is kept of ten samples of 2x2 pixels, and twenty images to compare with."""
    samples, images = (torch.randint(0, 256, (n, 1, 2, 2), generator=generator, dtype=torch.uint8) for n in (10, 20))
    extractor, kept = load_extractor("pixels", (1, 2, 2)), Accumulator(Limits(size=10, dim=4, features=10, pixels=10))
    kept.add(0, samples, extractor(samples))
    labelled, held = ImageData(images, "noise", labels=torch.arange(20) % 2), ImageData(images.flip(0), "held")
    return kept, Reference("noise", "0" * 64, extractor, images=labelled, held=held)


def measure(metric, material):
    kept, reference = material
    return metric.measure(kept.taken(metric, torch.arange(10) % 2), reference.taken(metric))


def test_a_new_metric_is_computed_as_all_others(toy, material):
    ours, theirs = material[0].kept("features")[:6], material[1].features(6)
    expected = {"spread": float(ours.std() / theirs.std()), "gap": float(ours.mean() - theirs.mean())}
    assert measure(toy, material) == expected
    assert Limits.of(("spread", "fid", "w2"), 10, size=4, dim=3) == Limits(4, 3, features=6, pixels=10)
    assert toy.used(10, 20) == [6, 6]
    assert value_of("spread").better_in_words == "higher is better"
    assert metric_of("gap") is toy
    assert "spread: Spread against that of the data, of the first 6" in metrics_help()
    with pytest.raises(ValueError, match="metric 'spread' already"):  # a name is taken once
        metric("spread", {"other": Value("other")})(torch.add)


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_gives_the_values_that_it_names(name, material):
    found = measure(METRICS[name], material)
    assert list(found) == list(METRICS[name].values)
    assert all(0 <= found[key] <= 1 for key, value in METRICS[name].values.items() if value.fraction)


@pytest.mark.parametrize("keeps, against, counts", [("features", "all", [5, 20]), ("pixels", "some", [5, 5])])
def test_metrics_get_as_many_as_they_ask_for(keeps, against, counts, toy, material):
    seen = []

    def look(*sets):
        seen.extend(sets)
        return (0.0,)

    metric("look", {"look": Value("")}, keeps=keeps, against=against, most=5)(look)
    measure(METRICS["look"], material)
    assert [len(part) for part in seen] == counts
    rows = material[0].kept(keeps)[:5]
    assert torch.equal(seen[0], rows if keeps == "features" else to_model_range(rows))


def test_what_is_said_of_values():
    fractions = {name for metric in METRICS.values() for name, value in metric.values.items() if value.fraction}
    assert fractions == {"accuracy", "precision", "recall", "copied", "copy_share"}
    better = [value_of(name).better for name in ("fid", "recall", "nearest", "unheard_of")]
    assert better == ["lower", "higher", None, "lower"]
    assert value_of("kid_standard_error").error
    assert value_of("old_one_standard_error").error
    assert value_of("nearest").better_in_words == ""
    assert title_of("fid", "inception") == f"{title_of('fid', 'pixels')} (FID)"
    assert title_of("fid_infinity_standard_error", "inception") == "standard error"
    assert metric_of("unheard_of") is None
    assert METRICS["fid"].used(10, None) == [10, None]
    assert METRICS["nearest"].used(20_000, 60_000) == [10_000, 60_000]
    assert METRICS["kid"].used(20_000, 60_000) == [10_000, 10_000]
