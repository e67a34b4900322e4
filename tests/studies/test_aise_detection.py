from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from xai_book.studies import aise_detection as study
from xai_book.studies import hardware
from xai_book.studies.engine import Runner
from xai_book.studies.results import Results, Unit
from xai_lib.aise.detection import AISEDetection
from xai_lib.baselines import DRISE
from xai_lib.core.detection import Detection
from xai_lib.zoo import detectors, scenes

SMALL = {
    "AISE": study.Case("AISE", {"sampler": "direct", "n_kernels": 8}),
    "shuffled": study.Case("shuffled", {"sampler": "direct", "n_kernels": 8}),
    "D-RISE": study.Case("D-RISE", {"n_samples": 40}),
    "blob": study.Case("blob", {}),
}


def unit(label: str, image: int) -> Unit:
    return Unit(study._settings(SMALL[label]), image)


@pytest.fixture(scope="module")
def scene() -> scenes.Scenes:
    return scenes.make(4, study.SEED)


@pytest.fixture(scope="module")
def detector() -> detectors.Detector:
    return detectors.load("scenes_detector")


def similarity(detector, image: Tensor, box: Tensor, label: int) -> float:
    """IoU times score, detection by detection."""
    best = 0.0
    with torch.no_grad():
        (found,) = detector(image)
    for b, s, k in zip(found.boxes, found.scores, found.labels, strict=True):
        width = float(min(b[2], box[2]) - max(b[0], box[0]))
        height = float(min(b[3], box[3]) - max(b[1], box[1]))
        inter = max(0.0, width) * max(0.0, height)
        areas = [float((c[2] - c[0]) * (c[3] - c[1])) for c in (b, box)]
        if k == label:
            best = max(best, inter / (sum(areas) - inter) * float(s))
    return best


@pytest.mark.parametrize("number", [0, 2])
def test_measures_by_loops(scene, detector, number: int) -> None:
    image = scene.images[number][None]
    found = study.confident(image)
    assert len(found.scores) >= 1
    assert (found.scores >= 0.5).all()
    measured = study.measure(unit("AISE", number))
    explainer = AISEDetection(detector, n_kernels=8, seed=number)
    for d, (box, label) in enumerate(
        zip(found.boxes, found.labels.tolist(), strict=True)
    ):
        iou = box_iou(box[None], scene.boxes[number])[0]
        same = scene.classes[number] == label
        assert measured["right"][d] == int(bool((iou[same] >= 0.5).any()))
        drawn = explainer.attribute(image, (box, label))[0, 0]
        positive = drawn.clamp_min(0)
        row, column = divmod(int(drawn.argmax()), 112)
        article = scene.masks[number][iou.argmax()]
        x0, y0, x1, y1 = box.tolist()
        inside = sum(
            float(positive[i, j])
            for i in range(112)
            for j in range(112)
            if y0 <= i + 0.5 < y1 and x0 <= j + 0.5 < x1
        )
        total = float(positive.sum())
        assert measured["energy_box"][d] == pytest.approx(inside / total, abs=1e-4)
        on_it = float(positive[article].sum()) / total
        assert measured["energy_mask"][d] == pytest.approx(on_it, abs=1e-4)
        assert measured["hit_mask"][d] == int(article[row, column])
        assert measured["hit_box"][d] == int(
            y0 <= row + 0.5 < y1 and x0 <= column + 0.5 < x1
        )
        half = (x1 - x0) / 2, (y1 - y0) / 2
        assert measured["hit_area"][d] == int(
            y0 - half[1] <= row + 0.5 < y1 + half[1]
            and x0 - half[0] <= column + 0.5 < x1 + half[0]
        )
        order = drawn.flatten().argsort(descending=True, stable=True)
        for f, fraction in enumerate(study.FRACTIONS):
            k = round(fraction * (x1 - x0) * (y1 - y0))
            gone = image.clone().flatten()
            gone[order[:k]] = 0
            gone = gone.view_as(image)
            alone = similarity(detector, image - gone, box, label)
            without = similarity(detector, gone, box, label)
            assert measured["kept"][d][f] == pytest.approx(alone, abs=1e-3)
            assert measured["removed"][d][f] == pytest.approx(without, abs=1e-3)


def test_the_search_area_is_cut_at_the_edges() -> None:
    boxes = torch.tensor([[4.0, 10.0, 20.0, 18.0], [0.0, 0.0, 6.0, 40.0]])
    areas = study.search_areas(boxes, 40, 30)
    expected = torch.zeros(2, 40, 30, dtype=torch.bool)
    expected[0, 6:22, :28] = True
    expected[1, :, :9] = True
    assert torch.equal(areas, expected)
    assert study.search_areas(boxes[:0], 40, 30).shape == (0, 40, 30)


@pytest.mark.parametrize("in_box", [1.0, 0.0])
def test_rows_that_lack_the_area(tmp_path, monkeypatch, in_box: float) -> None:
    def measured(one: Unit) -> dict:
        hits = {"hit_box": [0.0], "hit_area": [1.0]} if one.image else {}
        row = {"hit_box": [in_box], "score": [0.9], "right": [1], "queries": 0}
        return row | hits

    monkeypatch.setattr(study, "run", Runner(measured))
    study.run(study.units(SMALL, range(2)), Results("d", tmp_path))
    found = study.read(SMALL, Results("d", tmp_path))["AISE"]
    assert found["hit_box"].tolist() == [in_box, 0]
    # Who is in the box is in the area; of others nobody knows.
    assert ("hit_area" in found) == bool(in_box)
    assert not in_box or found["hit_area"].tolist() == [1, 1]


def test_exact_queries() -> None:
    found = study.confident(study._scenes().images[0][None])
    k = len(found.scores)
    assert k > 1
    asked = {label: study.measure(unit(label, 0))["queries"] for label in SMALL}
    assert asked == {"AISE": 24 * k, "shuffled": 24 * k, "D-RISE": 40, "blob": 0}


def test_a_blob_is_a_hill_in_the_box() -> None:
    boxes = torch.tensor([[10.0, 4.0, 30.0, 12.0], [0.0, 0.0, 8.0, 8.0]])
    hills = study.blob(boxes, 20, 40)
    assert hills.shape == (2, 1, 20, 40)
    for hill, (x0, y0, x1, y1) in zip(hills[:, 0], boxes.tolist(), strict=True):
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        for i, j in ((3, 5), (8, 20), (19, 39)):
            squares = ((j + 0.5 - x) / (x1 - x0)) ** 2 + (
                (i + 0.5 - y) / (y1 - y0)
            ) ** 2
            expected = torch.tensor(-8.0 * squares).exp()
            torch.testing.assert_close(hill[i, j], expected)


def test_shuffled_scores_at_the_same_places() -> None:
    """The scores are AISE's, in another order; so the map is another one, and one
    width's map still has AISE's sum of weights, zero."""
    image = study._scenes().images[0][None]
    found = study.confident(image)
    true, _ = study._explain(unit("AISE", 0), image, found)
    mixed, _ = study._explain(unit("shuffled", 0), image, found)
    again, _ = study._explain(unit("shuffled", 0), image, found)
    assert mixed.shape == true.shape
    assert torch.equal(mixed, again)
    assert not torch.allclose(mixed, true)


def test_d_rise_is_centred() -> None:
    image = study._scenes().images[0][None]
    maps, _ = study._explain(unit("D-RISE", 0), image, study.confident(image))
    torch.testing.assert_close(
        maps.mean(dim=(2, 3)), torch.zeros(len(maps), 1), atol=1e-6, rtol=0
    )
    assert (maps.amax(dim=(2, 3)) > 0).all()


def test_a_scene_without_a_detection(monkeypatch, tmp_path) -> None:
    none = study.Detection(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    monkeypatch.setattr(study, "confident", lambda image: none)
    for label in SMALL:
        row = study.measure(unit(label, 0))
        assert row.pop("queries") == 0
        assert all(values == [] for values in row.values())
    results = Results("d", tmp_path)
    study.run(study.units(SMALL, [0]), results)
    with pytest.raises(ValueError, match="has no row of AISE"):
        study.read(SMALL, results)


def test_rows_are_stored_once_and_read_as_means_over_a_scene(tmp_path) -> None:
    results = Results("d", tmp_path)
    assert study.run(study.units(SMALL, [1, 0]), results) == 8
    assert study.run(study.units(SMALL, range(2)), Results("d", tmp_path)) == 0
    study.run(study.units({"blob": SMALL["blob"]}, [2]), results)  # not common to all
    found = study.read(SMALL, Results("d", tmp_path))
    assert list(found) == list(SMALL)
    right = [study.measure(unit("AISE", i)) for i in (0, 1)]
    for row, of_scene in enumerate(right):
        keep = [i for i, r in enumerate(of_scene["right"]) if r]
        assert found["AISE"]["detections"][row] == len(keep) > 0
        for name in ("energy_box", "score"):
            mean = sum(of_scene[name][i] for i in keep) / len(keep)
            assert float(found["AISE"][name][row]) == pytest.approx(mean)
        last = sum(of_scene["removed"][i][-1] for i in keep) / len(keep)
        assert float(found["AISE"]["removed"][row, -1]) == pytest.approx(last)
    assert found["blob"]["image"].tolist() == [0, 1]
    assert found["blob"]["kept"].shape == (2, len(study.FRACTIONS))


def test_right_and_wrong_are_kept_apart(tmp_path, monkeypatch) -> None:
    rows = {0: [1, 0], 1: [1], 2: [0]}

    def measured(one: Unit) -> dict:
        k = len(rows[one.image])
        values = {key: [float(i) for i in range(k)] for key in study._MEASURES}
        values |= {name: [[0.0] * 4] * k for name in ("kept", "removed")}
        return values | {"score": [0.9] * k, "right": rows[one.image], "queries": 0}

    monkeypatch.setattr(study, "run", Runner(measured))
    results = Results("d", tmp_path)
    study.run(study.units(SMALL, range(3)), results)
    right = study.read(SMALL, results)["AISE"]
    wrong = study.read(SMALL, results, right=False)["AISE"]
    assert right["image"].tolist() == [0, 1]
    assert wrong["image"].tolist() == [0, 2]
    assert right["energy_box"].tolist() == [0, 0]
    assert wrong["energy_box"].tolist() == [1, 0]


def test_cases_are_the_papers() -> None:
    cases = study.cases()
    budgets = {
        label: one.arguments.get("n_samples", 3 * one.arguments.get("n_kernels", 0))
        for label, one in cases.items()
        if one.arguments
    }
    for label, n in budgets.items():
        assert str(n) in label.partition(",")[0]
    assert budgets["AISE-99"] == 99
    assert budgets["D-RISE-5000"] == 5000
    assert {one.method for one in cases.values()} == set(study.METHODS)
    for one in cases.values():  # the explainers take these arguments
        if one.method == "AISE":
            settings = one.arguments
            AISEDetection(hardware.detector(study.DETECTOR), **settings)
        study._settings(one)


def test_wrong_arguments(tmp_path) -> None:
    results = Results("d", tmp_path)
    with pytest.raises(ValueError, match="images must be below 200, got 200"):
        study.run(study.units(SMALL, [0, 200]), results)
    with pytest.raises(ValueError, match="images must be at least 0"):
        study.run(study.units(SMALL, [-1]), results)
    with pytest.raises(ValueError, match="method must be one of AISE"):
        study.run(study.units({"x": study.Case("RISE", {})}, [0]), results)
    study.run(study.units({"blob": SMALL["blob"]}, [0]), results)
    study.run(study.units({"AISE": SMALL["AISE"]}, [1]), results)
    with pytest.raises(ValueError, match="no scene has rows of all of AISE, blob"):
        study.read({k: SMALL[k] for k in ("AISE", "blob")}, results)
    assert len(results.rows()) == 2


def test_the_stored_rows_are_those_of_this_code() -> None:
    results = Results("aise_detection")
    for label in ("AISE-99", "blob"):
        one = Unit(study._settings(study.cases()[label]), 0)
        (stored,) = (
            row for row in results.rows(**one.settings) if row["image"] == one.image
        )
        now = study.measure(one)
        assert stored["result"].keys() <= now.keys()  # some are older than the area
        # Other thread counts round otherwise, and DIRECT may then turn elsewhere.
        for name, atol in (("right", 0), ("score", 1e-3), ("energy_box", 0.02)):
            assert now[name] == pytest.approx(stored["result"][name], abs=atol)


def test_kept_maps_of_drise_are_those_of_the_method(
    scene, detector, tmp_path, monkeypatch
) -> None:
    image = scene.images[2][None]
    found = study.confident(image)
    where = (detector, image, found, "scene2", 40, tmp_path)
    kept = study.drise_maps(*where)
    direct = DRISE(detector, n_samples=40).attribute_all(image, found)[0, :, None]
    direct = direct - direct.mean(dim=(2, 3), keepdim=True)
    assert kept.shape == direct.shape == (len(found.scores), 1, 112, 112)
    step = direct.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1) / 127
    assert ((kept - direct).abs() <= 0.51 * step).all()
    # The second time nobody is asked, and what is missing is made.
    with monkeypatch.context() as patched:
        patched.setattr(study, "DRISE", None)
        assert torch.equal(study.drise_maps(*where), kept)
        # Another number of threads moves a box by a last digit.
        moved = replace(found, boxes=found.boxes + 1e-5)
        again = study.drise_maps(detector, image, moved, "scene2", 40, tmp_path)
        assert torch.equal(again, kept)
    none = Detection(found.boxes[:0], found.scores[:0], found.labels[:0])
    assert study.drise_maps(detector, image, none, "empty").shape == (0, 1, 112, 112)
    next(tmp_path.iterdir()).unlink()
    assert torch.equal(study.drise_maps(*where), kept)
