"""The rewritten model computes what the model computes, and leaves it alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xai_lib.baselines import deeplift, lrp, rewrite


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2)).double()


def test_every_pass_keeps_the_scores(
    architecture: str, lively: Callable[..., nn.Module], photo: Tensor
) -> None:
    model = lively(architecture)
    expected = model(photo)
    copied = deeplift.windowed_max_pools(rewrite.explicit_layers(model))
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in copied.modules())
    torch.testing.assert_close(copied(photo), expected, rtol=1e-12, atol=1e-12)

    merged = lrp.merge_batch_norms(rewrite.explicit_layers(model))
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in merged.modules())
    assert norms == 1  # the normalisation of the input, before any convolution
    sums = lrp.explicit_sums(merged)
    added = sum(isinstance(layer, lrp.Add) for layer in sums.modules())
    blocks = {"resnet50": 16, "efficientnet_lite0": 9}
    assert added == blocks.get(architecture, 0)
    torch.testing.assert_close(sums(photo), expected, rtol=1e-10, atol=1e-10)


def test_activations_are_layers_used_once(
    architecture: str, lively: Callable[..., nn.Module]
) -> None:
    copied = rewrite.explicit_layers(lively(architecture))
    calls = [layer for _, layer in rewrite.layers(copied)]
    relus = [layer for layer in calls if isinstance(layer, nn.ReLU)]
    known = {"vgg16": 15, "resnet50": 49, "inception_v3": 94, "efficientnet_lite0": 33}
    assert len({id(layer) for layer in relus}) == len(relus) == known[architecture]
    names = {name for name, _ in rewrite.operations(copied)}
    assert not names & {"relu", "relu_", "relu6", "hardtanh"}
    assert not any(isinstance(layer, nn.Hardtanh) for layer in calls)


class Careless(nn.Module):
    """Everything that trips tools over: reuse, functions, methods, work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.relu6 = nn.ReLU6()
        self.hard = nn.Hardtanh(0, 6, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        b = self.relu(a)  # changes a, which is read again below
        a = a + self.relu6(10 * b)
        c = F.relu(self.conv(a), inplace=True)
        d = self.conv(c)
        d += a
        e = d.relu_()
        f = F.relu6(self.relu(self.hard(d - 1)) + torch.relu(e))
        g = self.conv(f)
        h = g.add_(d)
        return F.max_pool2d(g * h, 3, 2, 1) + F.avg_pool2d(h, 3, stride=2, padding=1)


@pytest.mark.filterwarnings("error")
def test_reuse_functions_and_in_place_calls() -> None:
    torch.manual_seed(0)
    model = Careless().double()
    x = 3 * numbers(2, 2, 8, 8)
    expected = model(x.clone())
    copied = rewrite.explicit_layers(model)
    torch.testing.assert_close(copied(x), expected, rtol=1e-12, atol=1e-12)
    lrp.explicit_sums(deeplift.windowed_max_pools(copied))
    torch.testing.assert_close(copied(x), expected, rtol=1e-12, atol=1e-12)
    assert not any(getattr(layer, "inplace", False) for layer in copied.modules())


def test_the_model_stays_as_it_was_and_lends_its_parameters() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True))
    model[1].eval()
    before = copy.deepcopy(model.state_dict())
    copied = rewrite.explicit_layers(model)
    lrp.explicit_sums(deeplift.windowed_max_pools(copied))
    assert model.training
    assert model[2].inplace
    assert {id(p) for p in copied.parameters()} == {id(p) for p in model.parameters()}
    lrp.merge_batch_norms(copied)
    copied(numbers(1, 1, 8, 8).float())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        (2, 2, 0, 1),
        (3, 2, 1, 1),
        (3, 1, 1, 1),
        (3, 2, 1, 2),
        (2, 3, 1, 1),
        ((3, 2), (2, 1), (1, 0), (1, 2)),
    ],
)
def test_windowed_max_pool_is_max_pool(
    kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> None:
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    for side in range(6, 12):
        x = numbers(2, 3, side, side + 1) - 5  # all negative: a zero would win
        assert torch.equal(deeplift.WindowedMaxPool(pool)(x), pool(x))


def test_a_single_layer_is_a_model() -> None:
    layer = nn.Linear(3, 2).double()
    copied = rewrite.explicit_layers(layer)
    assert torch.equal(copied(numbers(4, 3)), layer(numbers(4, 3)))


def test_what_cannot_be_rewritten_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"cannot trace Branching.*branch on values"):
        rewrite.explicit_layers(Branching())
    with pytest.raises(TypeError, match=r"must be an nn\.Module.*function"):
        rewrite.explicit_layers(lambda x: x)  # type: ignore[arg-type]
