from __future__ import annotations

import pytest
from torch import nn

from modules.modes import evaluating


def test_every_mode_is_left_as_found_after_an_error_too() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(2))).train()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    assert modes == [True, True, False, False]
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == modes
    with pytest.raises(KeyError), evaluating(network):
        raise KeyError
    assert [module.training for module in network.modules()] == modes
