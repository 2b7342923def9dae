r"""Are samples of the class that was asked for? By a linear discriminant of the features of labelled pictures.

With the means mu_c of the features of every class c and their common covariance S within classes (Fisher 1936; as many
pictures a class are taken to be as likely), a sample of features f is given the class of the largest

$$\mu_c^T S^{-1} f - \tfrac12\,\mu_c^T S^{-1} \mu_c .$$

It needs nothing but the features, and says as much of other features as of those of a classifier. What it says of real
pictures that it was not fitted to is the figure to compare with: classes that look alike are confused there as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxdm.metrics.checks import check_features
from proxdm.metrics.registry import Value, metric

RIDGE = 1e-6
"""Share of the mean variance that is added to every one."""


def classify(samples: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Return the class of every sample `(m, D)`, int64 `(m,)`, by features `(n, D)` with labels `(n,)`, 0 and up."""
    f, labels = check_features(features), labels.to(features.device)
    counts = torch.bincount(labels)
    if not bool((counts > 0).all()):
        raise ValueError(f"class number {int(counts.argmin())} has no picture; every class needs some")
    means = torch.zeros(len(counts), f.shape[1], dtype=f.dtype, device=f.device)
    means = means.index_add(0, labels, f) / counts[:, None]
    rest = f - means[labels]
    within = rest.T @ rest / len(f)
    within += RIDGE * within.diagonal().mean() * torch.eye(len(within), dtype=f.dtype, device=f.device)
    weights = torch.linalg.solve(within, means.T)  # S^{-1} mu_c, (D, C)
    scores: Tensor = check_features(samples) @ weights - (means.T * weights).sum(0) / 2
    return scores.argmax(1)


@metric("accuracy", {"accuracy": Value("accuracy of the class", "higher", fraction=True)}, against="classes")
def accuracy(samples: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor]) -> tuple[float]:
    """Share of samples of the class asked for, by a linear discriminant of the reference's features."""
    features, labels = samples
    return (float((classify(features, *reference).cpu() == labels.cpu()).double().mean()),)
