"""The sinusoidal features are the formula; the MLP on top is exempt from autocast; t and lam each get half."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from proxdm.networks.embeddings import ConditionEmbedding, ScalarEmbedding, sinusoidal_features


def test_features_are_the_formula():
    t = torch.tensor([0.0, 1e-3, 0.37, 1.0], dtype=torch.float64)
    half = 8
    expected = np.empty((4, 2 * half))
    for row, value in enumerate(t.tolist()):
        for k in range(half):
            angle = 1000 * value * 10000 ** (-k / (half - 1))
            expected[row, k], expected[row, half + k] = math.sin(angle), math.cos(angle)
    np.testing.assert_allclose(sinusoidal_features(t, 2 * half), expected, rtol=0, atol=1e-11)


def test_features_of_half_precision_times_are_computed_in_float32():
    t = torch.tensor([0.75], dtype=torch.bfloat16)  # exact in bfloat16
    out = sinusoidal_features(t, 16)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, sinusoidal_features(t.double(), 16).float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("width", [2, 7])
def test_features_reject_widths_that_have_no_frequencies(width):
    with pytest.raises(ValueError, match=f"width {width}, but it must be even and at least 4"):
        sinusoidal_features(torch.zeros(1), width)


def test_embedding_is_the_same_under_autocast():
    torch.manual_seed(0)
    embedding, t = ScalarEmbedding(32, 64), torch.linspace(0, 1, 11)
    plain = embedding(t)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = embedding(t)
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16  # autocast is on again
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0, atol=0)


def test_t_and_lam_have_a_half_each():
    torch.manual_seed(0)
    embedding = ConditionEmbedding("time-lam", 16, 32)
    t, lam = torch.tensor([0.1, 0.1]), torch.tensor([0.2, 0.9])
    out = embedding(t, lam)
    assert out.shape == (2, 32)
    torch.testing.assert_close(out[0, :16], out[1, :16], rtol=0, atol=0)
    assert not torch.allclose(out[0, 16:], out[1, 16:])
    torch.testing.assert_close(out, torch.cat([embedding.time(t), embedding.lam(lam)], 1), rtol=0, atol=0)


def test_log_lam_embeds_the_logarithm():
    torch.manual_seed(0)
    embedding, lam = ConditionEmbedding("time-lam", 16, 32, log_lam=True), torch.tensor([1e-4, 2.0])
    waves = sinusoidal_features(lam.log(), 16, scale=100.0)
    expected = embedding.lam.out(torch.nn.functional.silu(embedding.lam.hidden(waves)))
    torch.testing.assert_close(embedding(lam, lam)[:, 16:], expected, rtol=0, atol=0)


def test_lam_must_fit_the_conditioning():
    t = torch.tensor([0.5])
    with pytest.raises(ValueError, match="conditioned on t and lam: give lam"):
        ConditionEmbedding("time-lam", 16, 32)(t)
    with pytest.raises(ValueError, match="conditioned on t alone, leave lam out"):
        ConditionEmbedding("time", 16, 32)(t, t)
