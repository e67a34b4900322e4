from __future__ import annotations

import pytest
import torch

from xai_book import data
from xai_book.data import torchray


def test_list_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    data.list()
    lines = capsys.readouterr().out.splitlines()
    head = ["NAME", "ROLE", "SOURCE", "SIZE", "LICENCE", "SUPPLY"]
    assert lines[0].split() == head
    first = [line.split("  ")[0] for line in lines[1:]]
    assert first == [*torchray.MODELS, "voc07", "coco14"]
    assert all(line.endswith(" download") for line in lines[1:])


def test_sizes_are_true() -> None:
    rows = {row.name: row for row in torchray.rows()}
    for name, (build, categories) in {
        "torchray_vgg16_voc": (torchray.vgg16, 20),
        "torchray_vgg16_coco": (torchray.vgg16, 80),
        "torchray_resnet50_voc": (torchray.resnet50, 20),
        "torchray_resnet50_coco": (torchray.resnet50, 80),
    }.items():
        with torch.device("meta"):
            state = build(categories).state_dict()
        assert rows[name].size == 4 * sum(v.numel() for v in state.values())
