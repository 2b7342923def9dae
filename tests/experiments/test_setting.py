from __future__ import annotations

from importlib.metadata import version

import pytest
import torch

from proxdm import __version__
from proxdm.experiments.setting import one_thread, versions


def test_one_thread_inside_and_as_before_outside():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_versions():
    found = versions("numpy")
    assert set(found) == {"proxdm", "python", "numpy"}
    assert (found["proxdm"], found["numpy"]) == (__version__, version("numpy"))
