from __future__ import annotations

import pytest

from xai_lib import zoo
from xai_lib.core.paths import data_path
from xai_lib.zoo import detectors, digits, models, photos, scenes

PARTS = (models, detectors, photos, digits, scenes)


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    zoo.list()
    lines = capsys.readouterr().out.splitlines()
    head = ["NAME", "ROLE", "SOURCE", "SIZE", "LICENCE", "SUPPLY"]
    assert lines[0].split() == head
    first = [line.split("  ")[0] for line in lines[1:]]
    data = ["mnist", "mnist(full=True)", "fashion_mnist", "fashion_mnist(full=True)"]
    expected = [*models.names(), *detectors.names(), *photos.names(), *data]
    assert first == [*expected, "scenes"]
    assert all(line.endswith((" offline", " download")) for line in lines[1:])


def test_sizes_are_true() -> None:
    rows = {row.name: row for part in PARTS for row in part.rows()}
    assert rows["mnist"].size == data_path("digits/mnist.npz").stat().st_size
    # The published sizes of two files, and of the four that hold Fashion-MNIST.
    assert rows["vgg16"].size == pytest.approx(553_433_881, rel=1e-5)
    assert rows["efficientnet_lite0"].size == pytest.approx(18.7e6, rel=0.02)
    files = (26_421_880, 29_515, 4_422_102, 5_148)
    assert rows["fashion_mnist(full=True)"].size == sum(files)
    # Published by torchvision, and taken from the networks' numbers of parameters.
    small = rows["fasterrcnn_mobilenet_v3_large_320_fpn"]
    assert small.size == pytest.approx(77.8e6, rel=0.01)
