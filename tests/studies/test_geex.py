from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from xai_book.methods import METHODS
from xai_book.studies import geex as study
from xai_book.studies import hardware
from xai_book.studies.results import Results, Unit
from xai_lib import baselines
from xai_lib.geex import GEEX, IGEEX
from xai_lib.kernels import philox
from xai_lib.zoo import models, photos

CNN, LITE = "cnn_mnist", "efficientnet_lite0"


def small(method: str, **changes: object) -> study.Case:
    """A case on digits with few queries."""
    few: dict[str, object] = {
        "SmoothGrad": {"n_samples": 4},
        "IG": {"n_steps": 4},
        "RISE": {"n_samples": 32},
        "LIME": {"n_samples": 20},
        **{method: {"n_samples": 64} for method in study.FAMILY},
    }
    return study.case(method, CNN, **few.get(method, {}), **changes)


@pytest.fixture
def quick_references(monkeypatch):
    """White-box maps with few samples."""
    for method, few in (("SmoothGrad", {"n_samples": 8}), ("IG", {"n_steps": 4})):
        changed = {**study.SMALL[method], **few}
        monkeypatch.setitem(study.SMALL, method, changed)
        monkeypatch.setitem(study.LARGE, method, {**study.LARGE[method], **few})


def test_maps_are_held_to_smoothgrad_of_the_width_that_is_asked(
    tmp_path, quick_references
):
    """At the authors' width RISE, which has none, is compared with theirs too."""
    stdevs = study.AUTHORS_STDEVS["small"]
    every = study.table1(CNN, stdevs)
    wide = {m for m, one in every.items() if one.arguments.get("stdevs") == stdevs}
    assert wide == {"SmoothGrad", *study.FAMILY}
    cases, results = {"RISE": small("RISE")}, Results("g", tmp_path)
    todo = study.units(cases, CNN, "mnist", [3], explains="logit", stdevs=stdevs)
    assert study.run(todo, results) == 1
    found = study.read(cases, CNN, "mnist", results, explains="logit", stdevs=stdevs)
    model, image = models.load(CNN), study.load("mnist", [3], CNN)
    target = model(image).argmax(1)
    rise = METHODS["RISE"].explainer(
        hardware.blackbox(CNN, "logit", 256), **cases["RISE"].arguments, seed=0
    )
    theirs = baselines.SmoothGrad(model, 8, stdevs, seed=1)
    expected = study.map_distance(
        rise.attribute(image, target), theirs.attribute(image, target)
    )
    assert float(found["RISE"]["to_smoothgrad"][0]) == pytest.approx(
        float(expected), abs=1e-4
    )
    with pytest.raises(ValueError, match="no row of RISE"):
        study.read(cases, CNN, "mnist", results, explains="logit", stdevs=0.2)


def test_all_methods_give_rows_that_are_read_back(tmp_path, quick_references):
    cases = {m: small(m) for m in study.METHODS}
    results = Results("g", tmp_path)
    assert study.run(study.units(cases, CNN, "mnist", [3, 1]), results) == 2 * 8
    assert study.run(study.units(cases, CNN, "mnist", range(4)), results) == 2 * 8
    assert (
        study.run(study.units(cases, CNN, "mnist", range(4)), Results("g", tmp_path))
        == 0
    )
    found = study.read(cases, CNN, "mnist", Results("g", tmp_path))
    assert list(found) == list(study.METHODS)
    everywhere = {"image", "fractions", "target", "probability", "aopc", "curve"}
    of_method = {
        "SmoothGrad": {"aopc_input", "curve_input", "to_ig"},
        "IG": {"to_smoothgrad"},
        "RISE": {"to_smoothgrad", "to_ig", "queries"},
        "LIME": {"to_smoothgrad", "to_ig", "queries"},
        "random": set(),
    }
    family = {"to_smoothgrad", "to_ig", "queries", "noise", "bright"}
    of_method["GEEX"] = family | {"aopc_input", "curve_input", "cosine"}
    of_method["GERS"] = of_method["GEEX"]
    of_method["iGEEX"] = family
    for method, values in found.items():
        assert set(values) == everywhere | of_method[method]
        assert values["image"].tolist() == [0, 1, 2, 3]
        assert values["aopc"].shape == (4,)
        assert values["curve"].shape == (4, study.POINTS)
        # The first point of a curve is the image, the last one black, for all.
        first, last = values["curve"][:, 0], values["curve"][:, -1]
        assert torch.allclose(first, values["probability"], atol=6e-4)
        assert torch.equal(last, found["random"]["curve"][:, -1])
    assert found["GEEX"]["fractions"][[0, 28, -1]].tolist() == [0, 0.5, 1]
    for method, queries in (("RISE", 32), ("LIME", 20), ("GEEX", 64), ("iGEEX", 64)):
        assert found[method]["queries"].tolist() == [queries] * 4


def test_rows_do_not_depend_on_the_images_beside(tmp_path, quick_references):
    cases = {m: small(m) for m in ("GERS", "iGEEX", "random")}
    together, alone = Results("a", tmp_path), Results("b", tmp_path)
    study.run(study.units(cases, CNN, "mnist", range(3)), together)
    for image in (2, 0, 1):
        study.run(study.units(cases, CNN, "mnist", [image]), alone)
    first, second = (study.read(cases, CNN, "mnist", r) for r in (together, alone))
    for label in cases:
        for name in first[label]:
            torch.testing.assert_close(
                first[label][name], second[label][name], rtol=1e-3, atol=2e-3
            )


def brute_force(image: torch.Tensor, scores: torch.Tensor) -> list[float]:
    """The target's probability while a loop deletes pixel after pixel."""
    model = models.load(CNN)
    current = image.clone()
    with torch.no_grad():
        target = int(model(current).argmax())
        curve = [float(model(current).softmax(1)[0, target])]
        order = sorted(range(784), key=lambda i: (-float(scores.flatten()[i]), i))
        for pixel in order:
            current[0, 0, pixel // 28, pixel % 28] = 0
            curve.append(float(model(current).softmax(1)[0, target]))
    return curve


@pytest.mark.parametrize("explains", study.SCORES)
def test_scores_against_a_loop_over_pixels(explains, quick_references):
    one = small("GEEX")
    unit = Unit(
        {
            "model": CNN,
            "data": "mnist",
            "explains": explains,
            "method": "GEEX",
            "arguments": one.arguments,
            "steps": 784,
        },
        image=7,
    )
    (found,) = study.measure([unit])
    model, image = models.load(CNN), study.load("mnist", [7], CNN)
    scorer = models.probabilities(model) if explains == "probability" else model
    target = int(model(image).argmax())
    assert found["target"] == target
    gradient, error = GEEX(scorer, **one.arguments).estimate(image, target)
    for name, scores in (("", gradient), ("_input", gradient * image)):
        curve = brute_force(image, scores)
        drops = [1 - p / curve[0] for p in curve[1:]]
        assert found["aopc" + name] == pytest.approx(sum(drops) / 784, abs=1e-4)
        kept = [curve[round(784 * i / 56)] for i in range(57)]
        assert [p / 1000 for p in found["curve" + name]] == pytest.approx(
            kept, abs=1e-3
        )
    smooth = baselines.SmoothGrad(scorer, n_samples=8, stdevs=0.5, seed=1)
    theirs = smooth.attribute(image, target)
    dot = float((gradient * theirs).sum() / gradient.norm() / theirs.norm())
    assert found["cosine"] == pytest.approx(dot, abs=1e-3)
    share = float(error.square().sum() / gradient.square().sum())
    assert found["noise"] == pytest.approx(share, rel=1e-2)
    distance = 0.0
    for column in range(28):
        a = gradient[0, 0, :, column] / gradient.abs().max()
        b = theirs[0, 0, :, column] / theirs.abs().max()
        distance += float((a - b).norm()) / 784
    assert found["to_smoothgrad"] == pytest.approx(distance, rel=1e-2)


def test_noise_of_an_integral_lies_where_the_image_is_bright(quick_references):
    # The median of a digit is 0, and (x - 0) times anything is 0 where x is.
    one = small("iGEEX")
    unit = Unit(study._settings(one, CNN, "mnist", "probability"), 0)
    assert study.measure([unit])[0]["bright"] == 1
    pixels = study.measure(
        [Unit(study._settings(small("GEEX"), CNN, "mnist", "logit"), 0)]
    )[0]
    assert 0 < pixels["bright"] < 0.5
    image = study.load("mnist", [0], CNN)
    scorer = models.probabilities(models.load(CNN))
    found = IGEEX(scorer, **one.arguments).estimate(image)
    assert study.measure([unit])[0]["noise"] == pytest.approx(
        float(found.standard_error.square().sum() / found.gradient.square().sum()),
        rel=1e-2,
    )


def test_random_orders_differ_between_images_not_between_runs():
    units = [
        Unit(study._settings(small("random"), CNN, "mnist", "logit"), i) for i in (4, 5)
    ]
    both = study.measure(units)
    assert both[0]["aopc"] != both[1]["aopc"]
    assert study.measure(units[1:]) == both[1:]
    assert set(both[0]) == {"target", "probability", "aopc", "curve"}


def test_a_floor_is_one_search_direction_of_what_it_is_a_floor_for():
    floors = study.floors(CNN)
    images = torch.zeros(2, 1, 28, 28)
    lumps, waves = (
        study._explain(
            [
                Unit(study._settings(floors[name], CNN, "mnist", "logit"), i)
                for i in (0, 1)
            ],
            images,
            torch.zeros(2, dtype=torch.long),
        )[0]
        for name in ("lumps", "waves")
    )
    assert lumps.shape == waves.shape == images.shape
    assert not torch.equal(lumps[0], lumps[1])
    low = floors["waves"].arguments["mask_size"]
    spectrum = torch.from_numpy(dctn(waves.double().numpy(), axes=(2, 3)))
    assert low < 28
    assert spectrum[..., :low, :low].abs().min() > 0
    spectrum[..., :low, :low] = 0
    torch.testing.assert_close(spectrum, torch.zeros_like(spectrum), atol=1e-4, rtol=0)
    size = study.case("GERS", CNN).arguments["mask_size"]
    cells = philox.normals(1, 0, 1, size**2).view(1, 1, size, size)
    enlarged = torch.nn.functional.interpolate(cells, size=28, mode="bilinear")
    torch.testing.assert_close(lumps[1:], enlarged)


def test_large_images_go_image_by_image(tmp_path, quick_references, monkeypatch):
    monkeypatch.setattr(study, "_steps", lambda model: 4)
    cases = {
        "random": study.case("random", LITE),
        "GERS": study.case("GERS", LITE, n_samples=4, mask_size=2),
        "LIME": study.case("LIME", LITE, n_samples=4, n_segments=5),
    }
    results = Results("g", tmp_path)
    study.run(study.units(cases, LITE, "photos", range(2)), results)
    order = [(row["image"], row["settings"]["method"]) for row in results.rows()]
    assert order == [(i, m) for i in (0, 1) for m in ("random", "GERS", "LIME")]
    # Row-sized portions where the steps are not replaced.
    monkeypatch.undo()
    assert Unit(study._settings(cases["GERS"], LITE, "photos", "logit"), 0).settings[
        "steps"
    ] == (224)


WORKER = """
import sys
from xai_book.studies import geex as study
from xai_book.studies.results import Results

one = {"method": "SmoothGrad", "model": "cnn_mnist", "n_samples": 1}
cases = {n: study.case(**one, seed=n) for n in range(400)}
units = study.units(cases, "cnn_mnist", "mnist", range(2))
study.run(units, Results("killed", sys.argv[1]))
"""


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)])
    while len(Results("killed", tmp_path).rows()) < 3:
        assert process.poll() is None, "the worker ended by itself"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(Results("killed", tmp_path).rows())
    one = {"method": "SmoothGrad", "model": CNN, "n_samples": 1}
    cases = {n: study.case(**one, seed=n) for n in range(done // 2 + 2)}
    missing = 2 * len(cases) - done
    assert study.run(
        study.units(cases, CNN, "mnist", range(2)), Results("killed", tmp_path)
    ) == (missing)
    whole, other = Results("killed", tmp_path), Results("whole", tmp_path)
    study.run(study.units({0: cases[0]}, CNN, "mnist", range(2)), other)
    first, second = (
        study.read({0: cases[0]}, CNN, "mnist", results)[0]
        for results in (whole, other)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_read_takes_the_images_that_all_cases_have(tmp_path, quick_references):
    results = Results("g", tmp_path)
    cases = {"a": small("random"), "b": small("GERS")}
    study.run(study.units({"a": cases["a"]}, CNN, "mnist", range(4)), results)
    with pytest.raises(ValueError, match="no row of b"):
        study.read(cases, CNN, "mnist", results)
    study.run(study.units({"b": cases["b"]}, CNN, "mnist", [5, 2, 0]), results)
    found = study.read(cases, CNN, "mnist", results)
    assert found["a"]["image"].tolist() == found["b"]["image"].tolist() == [0, 2]
    assert study.default_score(CNN) == "logit"
    with pytest.raises(ValueError, match="no row of a"):
        study.read(cases, CNN, "mnist", results, explains="probability")
    study.run(study.units({"c": small("IG")}, CNN, "mnist", [9]), results)
    with pytest.raises(ValueError, match="no image of mnist"):
        study.read({**cases, "c": small("IG")}, CNN, "mnist", results)


def test_cases_of_the_figures():
    table = study.table1(CNN)
    assert list(table) == list(study.METHODS)
    budgets = [table[m].arguments["n_samples"] for m in (*study.FAMILY, "RISE")]
    assert budgets == [5000] * 4
    assert all(table[m].arguments["stdevs"] == 0.5 for m in study.FAMILY)
    assert table["GERS"].arguments["mask_size"] == 14
    assert "mask_size" not in table["iGEEX"].arguments
    large = study.table1(LITE)
    masks = [large[m].arguments["mask_size"] for m in ("GERS", "iGEEX")]
    assert masks[0] == masks[1]  # iGEEX involves resized masks on large inputs
    # Table 1's own settings are among those of the other figures.
    assert study.samples(CNN)[5000] == table["GEEX"] == study.stdevs(CNN)[0.5]
    assert study.mask_sizes(CNN)[14] == table["GERS"]
    sizes = study.mask_sizes(LITE)
    assert sizes[masks[0]] == study.samplers(LITE)["resized", 1000]
    assert study.samplers(CNN)["mirrored", 5000] == table["GEEX"]
    assert study.samplers(CNN)["resized", 5000] == table["GERS"]
    assert study.samplers(LITE)["resized", 5000] == large["GERS"]
    for noise, n in (("orthogonal", 1568), ("independent", 5000)):
        chosen = study.samplers(CNN)[noise, n]
        assert chosen == study.case("GEEX", CNN, n_samples=n, noise=noise)
    low, cells = (
        study.samplers(LITE)[noise, 1000].arguments
        for noise in ("low-frequency", "resized 12")
    )
    assert low["mask_size"] == cells["mask_size"] == 12
    assert (low["noise"], cells["noise"]) == ("low-frequency", "mirrored")
    assert study.samplers(CNN)["low-frequency", 500].arguments["mask_size"] == 15
    assert study.samplers(CNN)["low-frequency", 5000].arguments["mask_size"] == 28
    assert study.samplers(CNN)["low-frequency 14", 500].arguments["mask_size"] == 14
    every = {**study.samplers(CNN), **study.samples(CNN), **study.mask_sizes(CNN)}
    for one in every.values():  # the explainers take these arguments
        if one.method != study.FLOOR:
            kind = METHODS[one.method].explainer
            kind(models.load(CNN), **one.arguments)


@pytest.mark.parametrize(
    ("n", "channels", "size"),
    [(392, 1, 14), (391, 1, 13), (98, 1, 7), (1568, 1, 28), (1000, 3, 12), (6, 3, 1)],
)
def test_one_round_of_pairs(n, channels, size):
    assert study.subspace(n, channels) == size
    assert 2 * channels * size**2 <= n < 2 * channels * (size + 1) ** 2


def test_bad_arguments(tmp_path):
    results = Results("g", tmp_path)
    cases = {"random": small("random")}
    with pytest.raises(ValueError, match="method must be one of SmoothGrad"):
        study.case("Geex", CNN)
    with pytest.raises(ValueError, match="unknown model"):
        study.table1("cnn_mnits")
    with pytest.raises(ValueError, match="explains must be one of"):
        study.run(study.units(cases, CNN, "mnist", [0], explains="margin"), results)
    with pytest.raises(FileNotFoundError, match="data must be one of mnist"):
        study.run(study.units(cases, CNN, "mnits", [0]), results)
    with pytest.raises(ValueError, match="mnist has 1000 images, got index 1000"):
        study.run(study.units(cases, CNN, "mnist", [1000]), results)
    with pytest.raises(ValueError, match="n_samples must be at least 6"):
        study.subspace(5, 3)
    with pytest.raises(ValueError, match="ranking must be one of"):
        study.score({}, "both")
    assert not results.pending.exists()


def test_inception_on_an_imagenet_folder(tmp_path, monkeypatch, quick_references):
    """The published setting on a miniature: random weights, two classes."""
    for index, name in enumerate(("n01440764", "n02123045")):
        (tmp_path / "val" / name).mkdir(parents=True)
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3))
        image = Image.fromarray(pixels.astype(np.uint8))
        image.save(tmp_path / "val" / name / f"{index}.png")
    inception = models.load("inception_v3", pretrained=False)
    monkeypatch.setattr(hardware, "model", lambda name: inception)
    monkeypatch.setattr(hardware, "find_spec", lambda name: None)  # no copy of it
    monkeypatch.setattr(study, "_steps", lambda model: 2)
    for cached in (hardware.scorer, hardware.blackbox):
        cached.cache_clear()
    data, few = str(tmp_path / "val"), {"n_samples": 4}
    cases = {
        "GERS": study.case("GERS", "inception_v3", **few, mask_size=28),
        "random": study.case("random", "inception_v3"),
    }
    try:
        results = Results("g", tmp_path)
        study.run(study.units(cases, "inception_v3", data, range(2)), results)
        found = study.read(cases, "inception_v3", data, results)
    finally:
        for cached in (hardware.scorer, hardware.blackbox):
            cached.cache_clear()
    assert found["GERS"]["image"].tolist() == [0, 1]
    assert found["GERS"]["queries"].tolist() == [4, 4]
    images = study.load(data, [1, 0], "inception_v3")
    assert images.shape == (2, 3, 299, 299)
    expected = photos.read(tmp_path / "val" / "n02123045" / "1.png", 299)
    assert torch.equal(images[:1], expected)
    with torch.no_grad():
        probability = inception(images).softmax(1).amax(1).flip(0)
    torch.testing.assert_close(
        found["GERS"]["probability"], probability, rtol=0, atol=2e-5
    )
    with pytest.raises(ValueError, match="has 2 images, got index 2"):
        study.load(data, [2], "inception_v3")


@pytest.mark.parametrize("stdevs", [None, 0.034])
def test_maps_of_photographs_are_saved_once(
    tmp_path, monkeypatch, quick_references, stdevs
):
    monkeypatch.setattr(study, "_steps", lambda model: 2)
    chelsea, camera = (
        study.photo_names("photos").index(n) for n in ("chelsea", "camera")
    )
    cases = {"GERS": study.case("GERS", LITE, n_samples=4, mask_size=4)}
    results = Results("g", tmp_path)
    units = study.units(cases, LITE, "photos", [chelsea, camera], stdevs=stdevs)
    study.run(units, results)
    (path,) = (tmp_path / "geex_maps").glob("*.npz")
    assert path.name.startswith("chelsea_gers_")
    exact = study.GERS(study._blackbox(LITE, "probability"), **cases["GERS"].arguments)
    image = photos.load("chelsea").image
    expected = exact.attribute(image).sum(dim=1, keepdim=True)
    monkeypatch.setattr(study, "_explain", None)  # nothing is computed again
    ask = (cases, LITE, "photos", chelsea, tmp_path / "geex_maps")
    found = study.maps(*ask, stdevs=stdevs)["GERS"]
    assert found.shape == (1, 1, 224, 224)
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=0.51 / 127 * largest)
    with np.load(path) as stored:
        assert json.loads(str(stored["key"]))[1] == chelsea
        assert "date" in json.loads(str(stored["provenance"]))


def test_maps_of_digits_are_computed(tmp_path):
    cases = {"iGEEX": small("iGEEX"), "random": small("random")}
    found = study.maps(cases, CNN, "mnist", 3, tmp_path)
    image = study.load("mnist", [3], CNN)
    explainer = IGEEX(models.load(CNN), **cases["iGEEX"].arguments)
    expected = explainer.attribute(image)
    torch.testing.assert_close(found["iGEEX"], expected, rtol=1e-3, atol=1e-5)
    assert found["random"].shape == (1, 1, 28, 28)
    assert not any(tmp_path.iterdir())


def test_published_table():
    table = study.published_table1()
    assert set(table) == {"MNIST", "Fashion-MNIST", "ImageNet"}
    assert all(set(table[data]) >= set(study.TABLE) for data in table)
    assert table["ImageNet"]["random"] == 0.8381
    # As the paper says: LIME is last, and iGEEX first on MNIST.
    assert all(min(t, key=t.get) in ("LIME", "random") for t in table.values())
    assert max(table["MNIST"], key=table["MNIST"].get) == "iGEEX"


def test_the_choices_are_those_of_the_stored_rows():
    """Which score digits explain, and how wide the search on photographs is."""
    results = Results("geex_choices")
    means = dict.fromkeys((*study.SCORES, "non-informative"), 0.0)
    for data in ("mnist", "fashion_mnist"):
        model = f"cnn_{data}"
        for score in study.SCORES:
            cases = study.table1(model)
            found = study.read(cases, model, data, results, explains=score)
            assert found["GEEX"]["image"].tolist() == list(range(800, 860))
            means[score] += sum(float(found[m]["aopc"].mean()) for m in study.FAMILY)
        other = {m: study.case(m, model, loss="non-informative") for m in study.FAMILY}
        found = study.read(other, model, data, results, explains="logit")
        means["non-informative"] += sum(float(v["aopc"].mean()) for v in found.values())
    assert max(means, key=means.__getitem__) == study.default_score(CNN)
    by_width = {}
    for stdev in (0.15, 0.3):
        few = {"n_samples": 1000, "mask_size": 28, "stdevs": stdev}
        cases = {"GERS": study.case("GERS", LITE, **few)}
        found = study.read(cases, LITE, "unlabelled_photos", results)
        by_width[stdev] = float(found["GERS"]["aopc"].mean())
    best = max(by_width, key=by_width.__getitem__)
    assert study.table1(LITE)["GERS"].arguments["stdevs"] == best
