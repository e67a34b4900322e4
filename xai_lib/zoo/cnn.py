"""The papers' small classifier for 28 × 28 grey images."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class PapersCNN(nn.Sequential):
    """Two 5 × 5 convolutions and dense layers of 120, 84 and 10: `[N, 1, 28, 28]` to
    logits `[N, 10]`.

    The classifier of the GEEX paper (Cai & Wunder, experiment settings), which leaves
    open the channels (here LeNet-5's 6 and 16) and the pooling (2 × 2 maximum). Every
    activation is a module of its own, so that hooks and rules can reach it.
    """

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, kernel_size=5),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, kernel_size=5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                dense1=nn.Linear(16 * 4 * 4, 120),
                relu3=nn.ReLU(),
                dense2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                dense3=nn.Linear(84, 10),
            )
        )
