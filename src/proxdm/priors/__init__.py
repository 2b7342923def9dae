"""Priors: what replaces a network at high noise for nothing.

At high noise every data set looks like one Gaussian, a little below like a mixture of a few, whose denoiser is known:
:func:`fit_prior` fits one to pictures in seconds. A sampler that is given one starts at a ratio s_0 far below that of
the noise (:func:`warm_start`), spends all its evaluations below it, and a multistep method has a history from its first
step on (:func:`bootstrap`). :func:`gain` says where a network is better than the prior, hence where to start.
"""

from proxdm.priors.base import DenoiserPrior, Facts, GainCurve, Prior, PriorError, bootstrap, warm_start
from proxdm.priors.files import load_prior, save_prior
from proxdm.priors.fit import fit_prior
from proxdm.priors.gain import few_step_grid, few_step_shape, gain, start_for, with_gain
from proxdm.priors.gaussian import GaussianPrior
from proxdm.priors.mixture import MixturePrior

__all__ = [
    "DenoiserPrior",
    "Facts",
    "GainCurve",
    "GaussianPrior",
    "MixturePrior",
    "Prior",
    "PriorError",
    "bootstrap",
    "few_step_grid",
    "few_step_shape",
    "fit_prior",
    "gain",
    "load_prior",
    "save_prior",
    "start_for",
    "warm_start",
    "with_gain",
]
