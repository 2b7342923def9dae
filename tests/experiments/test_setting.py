from __future__ import annotations

import pytest
import torch

from proxdm.experiments.setting import one_thread


def test_one_thread_inside_and_as_before_outside():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyError, match="1"), one_thread():
            raise KeyError(torch.get_num_threads())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
