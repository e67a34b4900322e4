"""The live figures' data: what the library says now, and what pages are made of."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import site_live
import site_photo
from sync_notebooks import ROOT
from xai_book.studies import claims
from xai_lib.aise.kernels import gaussian_masks
from xai_lib.zoo import digits, models, photos

MOST = 300_000


def stored(name: str) -> site_live.Found:
    path = ROOT / site_live.DATA / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_philox_gives_the_numbers_of_its_authors() -> None:
    # Random123's known answers.
    full = 2**32 - 1
    counter = np.array([[0] * 4, [full] * 4], dtype=np.uint64)
    assert [f"{w:x}" for w in site_live.philox(counter[:1], (0, 0))[0]] == [
        "6627e8d5",
        "e169c58d",
        "bc57ac4c",
        "9b00dbd8",
    ]
    assert [f"{w:x}" for w in site_live.philox(counter[1:], (full, full))[0]] == [
        "408f276d",
        "41c83b0e",
        "a20bc7c6",
        "6d5451fd",
    ]


def test_normal_numbers_are_normal_and_depend_on_seed_and_draw() -> None:
    numbers = site_live.normal(0, 0, 100_001)
    assert len(numbers) == 100_001
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.01
    assert not np.allclose(numbers[:9], site_live.normal(1, 0, 9))
    assert not np.allclose(numbers[:9], site_live.normal(0, 1, 9))
    assert np.array_equal(numbers[:8], site_live.normal(0, 0, 8))


def test_spot_scores_are_the_library_s() -> None:
    found = stored("spot")
    image = photos.load("coffee").image
    f = models.probabilities(models.load("efficientnet_lite0"))
    answers = f(image)[0]
    target = int(answers.argmax())
    whole = float(answers[target])
    side = found["side"]
    for k in (0, 13 * side + 13, 20 * side + 6):
        place = [(k % side + 0.5) / side, (k // side + 0.5) / side]
        mask = gaussian_masks([place], found["sigma"], 224, 224)
        shown = f(torch.cat([image * mask, image * (1 - mask)]))[:, target]
        score = float(shown[0]) + whole - float(shown[1])
        assert found["scores"][k] == pytest.approx(score, abs=1e-3)
    assert len(found["scores"]) == side**2
    assert len(found["direct_scores"]) == 50
    for frame in found["direct"]:
        areas = [width * height for _, _, width, height, _ in frame["rectangles"]]
        assert sum(areas) == pytest.approx(1, abs=1e-2)


def test_settling_answers_are_the_library_s_and_approach_the_gradient() -> None:
    found = stored("settle")
    network, image = models.load("cnn_mnist"), digits.mnist().images[:1]
    label = int(digits.mnist().labels[0])
    noise = torch.from_numpy(site_live.normal(found["seed"], 7, 784)).float()
    x = image + found["sigma"] * noise.view(1, 1, 28, 28)
    answer = float(network.network(network.normalize(x))[0, label])
    plus = site_live.unpacked(found["plus"], np.float32)
    assert plus[7] == pytest.approx(answer, abs=1e-3)
    truth = site_live.unpacked(found["gradient"], np.float32)

    def cosine(queries: int, mirrored: bool) -> float:
        estimate = site_live.estimate(found, queries, mirrored)
        return estimate @ truth / np.linalg.norm(estimate) / np.linalg.norm(truth)

    assert cosine(100, True) < cosine(500, True) < cosine(2000, True)
    assert cosine(2000, False) < cosine(2000, True)


def test_thresholds_keep_the_share_they_say() -> None:
    found = stored("threshold")
    assert [row["name"] for row in found["maps"]] == [
        "Gradient",
        "Integrated Gradients",
        "Occlusion",
        "RISE",
    ]
    for row in found["maps"]:
        values = site_live.unpacked(row["values"], np.uint16)
        assert (values.min(), values.max()) == (0, 65535)
        for share in found["shares"]:
            kept = site_live.highest(values, share)
            assert kept.mean() == pytest.approx(share, abs=1e-3)
            assert values[kept].min() >= values[~kept].max(initial=0)
        # All pixels visible: the photograph, whatever the map.
        assert row["chances"][-1] == pytest.approx(
            found["maps"][0]["chances"][-1], abs=1e-3
        )


def test_claims_are_those_of_the_rows() -> None:
    rows = stored("claims")["rows"]
    now = [(ruling.statement, ruling.verdict) for ruling in claims.rulings()]
    assert [(row["statement"], row["verdict"]) for row in rows] == now


@pytest.mark.parametrize("name", list(site_live.FIGURES))
def test_a_block_is_whole_and_light(name: str) -> None:
    block = site_live.block(name, to_top="../")
    assert block.count(f'id="live-{name}"') == 1
    assert "</figure>" in block
    assert html.escape(site_live.CAPTIONS[name]) in block
    for address in re.findall(r'src="([^"]*)"', block):
        assert (ROOT / "docs" / address.removeprefix("../")).exists()
    data = re.search(r'json">(.*?)</script>', block, re.DOTALL)
    if data is not None:
        assert json.loads(data[1]) == stored(name)


def test_a_page_with_all_figures_weighs_at_most_300_kb() -> None:
    blocks = sum(len(site_live.block(name).encode()) for name in site_live.FIGURES)
    folder = ROOT / "docs" / "_static" / "live"
    code = sum((folder / f"{n}").stat().st_size for n in ("live.js", "philox.js"))
    stills = sum(path.stat().st_size for path in (folder / "data").glob("*.png"))
    assert blocks + code + (folder / "live.css").stat().st_size + stills <= MOST


def test_without_onnx_the_photo_page_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / site_photo.PAGE
    page.write_text("# Your own photograph\n\nMuch text.\n", encoding="utf-8")
    monkeypatch.setattr(site_photo, "_installed", lambda name: name != "onnx")
    site_photo.add_photo_page(tmp_path, tmp_path / "packed")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Your own photograph\n\nThis site was built without")
    assert "pip install onnx`" in text
    assert not (tmp_path / "packed").exists()


def test_another_runtime_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / f"{site_photo.RUNTIME.replace('@', '-')}.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(site_photo.Missing, match="not the file"):
        site_photo.runtime(tmp_path)
    assert not archive.exists()
