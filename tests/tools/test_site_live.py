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
from live_aise import summed
from live_geex import contributions, estimate, resized, upsampled
from live_pertmap import best_box, curved, greyed
from live_pieces import highest, normal, philox, unpacked
from sync_notebooks import ROOT
from xai_book.studies import claims, showdown
from xai_lib.aise import AISE, AISEDetection, gaussian_masks
from xai_lib.geex import GEEX, GERS
from xai_lib.metrics import deletion
from xai_lib.pertmap import Box, StochasticPertMap, violation_rates, worst_point
from xai_lib.zoo import detectors, digits, models, photos, scenes

MOST = 300_000
FOLDER = ROOT / "docs" / "_static" / "live"


def stored(name: str) -> site_live.Found:
    path = ROOT / site_live.DATA / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_philox_gives_the_numbers_of_its_authors() -> None:
    # Random123's known answers.
    full = 2**32 - 1
    counter = np.array([[0] * 4, [full] * 4], dtype=np.uint64)
    assert [f"{w:x}" for w in philox(counter[:1], (0, 0))[0]] == [
        "6627e8d5",
        "e169c58d",
        "bc57ac4c",
        "9b00dbd8",
    ]
    assert [f"{w:x}" for w in philox(counter[1:], (full, full))[0]] == [
        "408f276d",
        "41c83b0e",
        "a20bc7c6",
        "6d5451fd",
    ]


def test_normal_numbers_are_normal_and_depend_on_seed_and_draw() -> None:
    numbers = normal(0, 0, 100_001)
    assert len(numbers) == 100_001
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.std() - 1) < 0.01
    assert not np.allclose(numbers[:9], normal(1, 0, 9))
    assert not np.allclose(numbers[:9], normal(0, 1, 9))
    assert np.array_equal(numbers[:8], normal(0, 0, 8))


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
    noise = torch.from_numpy(normal(found["seed"], 7, 784)).float()
    x = image + found["sigma"] * noise.view(1, 1, 28, 28)
    answer = float(network.network(network.normalize(x))[0, label])
    plus = unpacked(found["plus"], np.float32)
    assert plus[7] == pytest.approx(answer, abs=1e-3)
    truth = unpacked(found["gradient"], np.float32)

    def cosine(queries: int, mirrored: bool) -> float:
        mine = estimate(found, queries, mirrored)
        return mine @ truth / np.linalg.norm(mine) / np.linalg.norm(truth)

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
        values = unpacked(row["values"], np.uint16)
        assert (values.min(), values.max()) == (0, 65535)
        for share in found["shares"]:
            kept = highest(values, share)
            assert kept.mean() == pytest.approx(share, abs=1e-3)
            assert values[kept].min() >= values[~kept].max(initial=0)
        # All pixels visible: the photograph, whatever the map.
        assert row["chances"][-1] == pytest.approx(
            found["maps"][0]["chances"][-1], abs=1e-3
        )


def test_the_best_box_keeps_the_class_and_no_larger_one_does() -> None:
    found = stored("box")
    centres, widths = (torch.tensor(found[k]) for k in ("centres", "widths"))

    def model(z: torch.Tensor) -> torch.Tensor:
        return -((z[:, None] - centres) ** 2).sum(dim=2) / widths**2

    assert found == site_live.FIGURES["box"][0]()
    for point in (found["start"], [-0.4, 0.1], [0.3, 2.0]):
        x = torch.tensor([point])
        c = int(model(x).argmax())
        assert int(curved(found, np.array(point))) == c
        w = torch.from_numpy(best_box(found, np.array(point))).float()[None]
        inside = violation_rates(model, x, Box(w, w), c, n_samples=20_000)
        assert float(inside.uniform) == 0
        for k in range(2):
            larger = w.clone()
            larger[0, k] += 2 * found["bound"] / 100
            if larger[0, k] <= found["bound"]:
                assert float(worst_point(model, x, Box(larger, larger), c).excess) > 0


def test_boxes_and_their_classes_are_the_library_s() -> None:
    found, network = stored("penalty"), models.load("cnn_mnist")
    row, place = found["digits"][0], 6
    x, one = digits.mnist().images[1:2], row["boxes"][place]
    assert row["label"] == int(digits.mnist().labels[1])
    explainer = StochasticPertMap(
        network,
        n_perturbations=8,
        n_iterations=150,
        penalty=found["penalties"][place] * 784,
    )
    box = explainer.solve(x, row["label"])
    w = unpacked(one["w"], np.uint8)
    # Other processors round otherwise, and the ascent carries it on.
    assert np.abs(w / 255 - box.w.flatten().numpy()).mean() < 0.02
    rates = violation_rates(network, x, box, row["label"], n_samples=1000)
    assert one["points"] == pytest.approx(float(rates.uniform), abs=0.02)
    grey = torch.stack([greyed(x, w, q) for q in found["quantiles"]])
    assert network(grey).argmax(dim=1).tolist() == one["classes"]
    assert one["classes"][0] == row["label"]
    assert float(grey[-1].std()) == 0


def test_answers_to_noise_on_a_grid_are_the_library_s() -> None:
    found = stored("cells")
    network, image = models.load("cnn_mnist"), digits.mnist().images[:1]
    label = int(digits.mnist().labels[0])
    logits = torch.nn.Sequential(network.normalize, network.network)
    for place, size in enumerate(found["sizes"]):
        noise = normal(found["seed"], 3, size**2)[None]
        step = found["sigma"] * upsampled(noise, size).view(1, 1, 28, 28)
        with torch.no_grad():
            answer = (logits(image + step) - logits(image - step))[0, label]
        stored_answer = unpacked(found["answers"][place], np.float32)[3]
        assert stored_answer == pytest.approx(float(answer), abs=1e-3)

    # Both estimates have the same mean: GERS's, from noise of its own.
    place = found["sizes"].index(4)
    gers = GERS(logits, 1000, found["sigma"], mask_size=4).attribute(image, label)
    mine, theirs = resized(found, place, 1000), gers.flatten().double().numpy()
    assert np.corrcoef(mine, theirs)[0, 1] > 0.95
    assert np.linalg.norm(mine) == pytest.approx(np.linalg.norm(theirs), rel=0.2)


def test_parts_of_the_path_are_gradients_times_the_digit() -> None:
    found = stored("path")
    f = models.probabilities(models.load("cnn_mnist"))
    for row, index in zip(found["digits"], (4, 1), strict=True):
        x, label = digits.mnist().images[index : index + 1], row["label"]
        exact = contributions(row, "exact")
        for k, alpha in enumerate((torch.arange(20) + 0.5) / found["n_steps"]):
            point = (alpha * x).requires_grad_()
            (slope,) = torch.autograd.grad(f(point)[0, label], point)
            part = (x * slope).flatten().numpy() / found["n_steps"]
            assert np.abs(exact[k] - part).max() < 0.01 * np.abs(part).max()
        geex = GEEX(f, found["queries"], 0.3).attribute(7.5 / 20 * x, label)
        asked = (x * geex).flatten().numpy() / found["n_steps"]
        near = np.abs(contributions(row, "asked")[7] - asked).max()
        assert near < 0.01 * np.abs(asked).max()
        with torch.no_grad():
            ends = f(torch.cat([0 * x, x]))[:, label].tolist()
        assert [row["scores"][0], row["scores"][-1]] == pytest.approx(ends, abs=1e-3)
        # Integrated Gradients is complete; twenty points are nearly so.
        assert exact.sum() == pytest.approx(ends[1] - ends[0], abs=0.05)


def test_chances_without_the_best_pixels_are_the_library_s() -> None:
    found = stored("deletion")
    f = models.probabilities(models.load("cnn_mnist"))
    row = found["digits"][1]
    x = digits.mnist().images[4:5]
    for one in row["maps"]:
        values = unpacked(one["values"], np.uint16).astype(np.int64)
        heat = torch.from_numpy(values).double().view(1, 1, 28, 28)
        curve = deletion(f, x, heat, row["label"])
        places = [int(share * 784 + 0.5) for share in found["shares"]]
        assert one["chances"] == pytest.approx(
            curve.scores[0][places].tolist(), abs=2e-3
        )


def test_kernels_are_those_of_aise() -> None:
    found, data = stored("kernels"), scenes.make(40, seed=8)
    f = models.probabilities(models.load("scenes_classifier"))
    rows = found["scenes"][0]["searches"]["lattice preserve"][1:]
    settings = {"n_kernels": 25, "delete": False}
    heat = AISE(f, "lattice", (0.1, 0.175, 0.25), **settings).attribute(
        data.images[22:23], 7
    )
    assert np.abs(summed(rows, scenes.SIZE) - heat[0, 0].numpy()).max() < 1e-2
    boxes = data.boxes[22][data.classes[22] == 7] / scenes.SIZE
    assert np.allclose(found["scenes"][0]["boxes"], boxes, atol=1e-4)


def test_the_paper_s_area_is_that_of_aise_for_detectors() -> None:
    found, data = stored("area"), scenes.make(100, seed=1000)
    detector = detectors.load("scenes_detector")
    row, image = found["detections"][0], data.images[7:8]
    first = detector(image)[0]
    target = (first.boxes[0], int(first.labels[0]))
    samples = AISEDetection(detector, "direct", 33).sample(image, target)
    area = row["areas"][found["start"]]
    assert area["margin"] == 0.5
    for k, width in enumerate(area["widths"]):
        centres = unpacked(width["centres"], np.float32).reshape(-1, 2)
        assert np.allclose(centres, samples.centres[0, k], atol=1e-5)
        scores = unpacked(width["scores"], np.float32)
        assert np.allclose(scores, samples.scores[0, k], atol=1e-3)
        x0, y0, x1, y1 = area["bounds"]
        assert (centres >= [x0 - 1e-4, y0 - 1e-4]).all()
        assert (centres <= [x1 + 1e-4, y1 + 1e-4]).all()


def test_recommendations_are_those_of_the_rows() -> None:
    found = stored("method")
    tables = showdown.tables()
    named = [(table["data"], table["measure"]) for table in found["tables"]]
    assert named == [(table.data, table.measure) for table in tables]
    for row, table in zip(found["tables"], tables, strict=True):
        labels = list(table.scores)
        assert row["methods"] == [label.method for label in labels]
        means = [float(values.mean()) for values in table.scores.values()]
        assert row["means"] == pytest.approx(means, abs=6e-4)
        budget = found["budgets"].index(1000)
        now = showdown.decide(table.scores, 1000, gradients=False)
        taken, _, alike = row["decisions"][budget]
        assert (None if taken < 0 else labels[taken]) == now.label
        assert [labels[i] for i in alike] == list(now.alike)


def test_claims_are_those_of_the_rows(rulings: list[claims.Ruling]) -> None:
    rows = stored("claims")["rows"]
    now = [(ruling.statement, ruling.verdict) for ruling in rulings]
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


def weight(names: list[str]) -> int:
    """Bytes of a page with these figures, without the theme."""
    shared = [FOLDER / name for name in ("live.js", "philox.js", "live.css")]
    own = [FOLDER / "figures" / f"{name}.js" for name in names]
    stills = [FOLDER / "data" / f"{name}.png" for name in names]
    files = [path for path in (*shared, *own, *stills) if path.exists()]
    blocks = sum(len(site_live.block(name).encode()) for name in names)
    return blocks + sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("page", sorted(p.name for p in (ROOT / "docs").glob("*.md")))
def test_a_page_s_figures_weigh_at_most_300_kb(page: str) -> None:
    source = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert weight(re.findall(r":file: live/(\w+)\.html", source)) <= MOST


def test_the_pages_show_every_figure_once() -> None:
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").glob("live*.md")]
    shown = re.findall(r":file: live/(\w+)\.html", "".join(pages))
    assert sorted(shown) == sorted(site_live.FIGURES)


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
