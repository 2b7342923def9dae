"""The linear discriminant against scikit-learn's."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from proxdm.metrics.discriminant import accuracy, classify


def classes(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    mixed = torch.tensor([[1.0, 0.5, 0.0, 0.2], [0.0, 1.0, 0.3, 0.0], [0.0, 0.0, 1.0, 0.4], [0.0, 0.0, 0.0, 1.0]])
    centres = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.5, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 2.0]])
    return torch.randn(n, 4, generator=generator) @ mixed + centres[labels], labels


def test_equals_scikit_learns_and_is_the_share_of_the_right_classes():
    (f, labels), (g, right) = classes(300, 0), classes(500, 1)
    theirs = LinearDiscriminantAnalysis("lsqr", priors=[1 / 3] * 3).fit(f.numpy(), labels.numpy())
    found = classify(g, f, labels)
    assert found.tolist() == theirs.predict(g.numpy()).tolist()
    assert accuracy((g, right), (f, labels)) == (float((found == right).double().mean()),)
    assert accuracy((g, (found + 1) % 3), (f, labels)) == (0.0,)


def test_every_class_needs_a_picture():
    f, labels = classes(30, 0)
    with pytest.raises(ValueError, match="class number 1 has no picture"):
        classify(f, f[labels != 1], labels[labels != 1])
