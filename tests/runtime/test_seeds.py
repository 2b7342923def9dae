"""Random numbers are a function of (seed, use, step), and of nothing else."""

from __future__ import annotations

import itertools

import torch

from proxdm.runtime.seeds import CONDITIONS, DROPOUT, NOISE, derived_seed, step_generator


def test_seeds_differ_in_every_argument_and_repeat():
    keys = list(itertools.product((0, 1, 2), (CONDITIONS, NOISE, DROPOUT), range(50)))
    seeds = [derived_seed(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert seeds == [derived_seed(*key) for key in keys]
    assert derived_seed(0, DROPOUT, 1, 0) != derived_seed(0, DROPOUT, 1, 1)


def test_generators_do_not_depend_on_what_was_drawn_before():
    torch.manual_seed(0)
    first = torch.randn(5, generator=step_generator(1, NOISE, 2))
    torch.randn(100)
    assert torch.equal(first, torch.randn(5, generator=step_generator(1, NOISE, 2)))
