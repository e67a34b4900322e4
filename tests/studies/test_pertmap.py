from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from xai_book.studies import beds
from xai_book.studies import pertmap as study
from xai_book.studies.results import Results, Unit
from xai_lib import baselines
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.zoo import models

FAST = {"Stochastic": {"n_perturbations": 4, "n_iterations": 20}, "LP": {"patch": 4}}


def run(results: Results, methods: tuple[str, ...], n: int = 2) -> int:
    return study.run(
        study.units("cnn_mnist", "mnist", n, methods, FAST, n_points=50), results
    )


def test_all_methods_give_rows_and_curves(tmp_path):
    results = Results("f", tmp_path)
    assert run(results, study.METHODS) == 2 * 12
    assert run(results, study.METHODS, n=3) == 12  # the rest is there
    found = study.curves(results, "cnn_mnist", "mnist", settings=FAST)
    assert set(found) == set(study.METHODS)
    for method, curve in found.items():
        assert curve.images == (0, 1, 2)
        assert set(curve.changed) == {"grey", "black", "white"}
        for changed in curve.changed.values():
            assert changed.shape == (3, 21)
            assert not changed[:, 0].any()  # nothing is flipped at 0 %
        # At 100 % all images are one colour, so methods agree.
        assert torch.equal(
            curve.changed["grey"][:, -1], found["random"].changed["grey"][:, -1]
        )
        boxes = {"size", "uniform", "corners", "worst", "highest"}
        # "ratio" is missing where squares leave no noise.
        expected = boxes if method in study.BOXES else set()
        assert set(curve.maps) - {"ratio"} == expected
    assert "ratio" in found["Gradient"].maps
    assert "ratio" not in found["random"].maps
    assert found["LP"].maps["size"].max() <= 0.1 + 1e-6
    queries = {
        r["settings"]["method"]: r["result"].get("queries") for r in results.rows()
    }
    assert queries["PertMap"] == 80
    # 28 pixels, squares of 12, one every 4: 5 per side, and the image itself.
    assert queries["Occlusion"] == 26
    assert queries["Gradient"] is None


def test_flips_against_a_loop():
    unit = Unit(
        {
            "model": "cnn_mnist",
            "data": "mnist",
            "method": "Gradient",
            "arguments": {},
            "n_points": 0,
        },
        image=5,
    )
    (found,) = study.measure([unit])
    model, image = models.load("cnn_mnist"), beds.load("mnist", [5], "cnn_mnist")
    scores = baselines.Gradient(model).attribute(image).flatten()
    order = scores.argsort(stable=True)
    with torch.no_grad():
        decision = int(model(image).argmax())
        assert found["target"] == decision
        for colour, value in (("grey", 0.5), ("black", 0.0), ("white", 1.0)):
            expected = ""
            for tau in range(0, 101, 5):
                flipped = image.flatten().clone()
                flipped[order[: tau * 784 // 100]] = value
                now = int(model(flipped.view_as(image)).argmax())
                expected += str(int(now != decision))
            assert found[colour] == expected
    assert study.measure([unit]) == [found]


@pytest.mark.parametrize("method", ["Occlusion", "random", "Stochastic"])
def test_images_together_are_as_alone(method):
    todo = study.units("cnn_mnist", "mnist", 3, [method], FAST, 50)
    together = study.measure(todo)
    for unit, one in zip(todo, together, strict=True):
        (alone,) = study.measure([unit])
        assert one.keys() == alone.keys()
        assert one.get("queries") == alone.get("queries")
        if method == "Stochastic":  # whose rounding may turn a tie
            assert one["sizes"] == pytest.approx(alone["sizes"], abs=1e-4)
        else:
            assert one == alone


def test_sizes_are_those_before_the_last_step_of_each_tenth():
    todo = study.units("cnn_mnist", "mnist", 1, ["Stochastic"], FAST, 50)
    (found,) = study.measure(todo)
    model, image = models.load("cnn_mnist"), beds.load("mnist", [0], "cnn_mnist")
    settings = study.arguments("Stochastic", "cnn_mnist", FAST)
    size = StochasticPertMap(model, **settings).solve(image).size[:, 0] / 784
    assert found["sizes"] == pytest.approx(size[1::2].tolist(), abs=1e-4)


def test_the_half_with_the_highest_scores_against_a_loop():
    """Scores are minus the sides of the box: its smallest sides are the highest."""
    todo = study.units("cnn_mnist", "mnist", 8, ["LP"], FAST, 50)
    found = study.measure(todo)
    model = models.load("cnn_mnist")
    images = beds.load("mnist", range(8), "cnn_mnist")
    sides = LinearPertMap(model, **study.arguments("LP", "cnn_mnist", FAST))
    w = sides.solve(images).w.flatten(1)
    grey = images.flatten(1).clone()
    for image, order in zip(grey, w.argsort(dim=1, stable=True), strict=True):
        image[order[:392]] = 0.5
    changed = model(grey.view_as(images)).argmax(1) != model(images).argmax(1)
    assert [row["highest"] for row in found] == changed.tolist()
    assert changed.any()
    assert not changed.all()


def test_signal_and_noise():
    """Blocks of one value have no noise; what has a mean of zero in each has no
    signal; sums of both have the ratio of their variances, whatever the last rows."""
    blocks = torch.randn(2, 3, 28, 28).repeat_interleave(8, 2).repeat_interleave(8, 3)
    fine = torch.ones(2, 3, 224, 224)
    fine[..., ::2] = -1
    assert study.signal_to_noise(blocks).isinf().all()
    assert (study.signal_to_noise(fine + 1e-6 * blocks) < 1e-6).all()
    summed = blocks[..., ::8, ::8].sum(dim=1)
    expected = (summed.flatten(1).var(dim=1) / (3 / 2) ** 2).double()
    mixed = blocks + fine / 2
    torch.testing.assert_close(
        study.signal_to_noise(mixed), expected, rtol=1e-3, atol=0
    )
    larger = torch.randn(2, 3, 229, 230)
    larger[..., :224, :224] = mixed
    torch.testing.assert_close(
        study.signal_to_noise(larger), study.signal_to_noise(mixed)
    )


def test_photographs_come_four_by_four_and_probabilities_first():
    todo = study.STUDIES["figure1_photos"].units()
    assert len({unit.key for unit in todo}) == len(todo) == 26 * 12 * 2
    assert [unit.image for unit in todo[:8]] == [0, 1, 2, 3] * 2
    half = len(todo) // 2
    for explains, part in (("probability", todo[:half]), ("logit", todo[half:])):
        assert {unit.settings["explains"] for unit in part} == {explains}


CELLS = ("Gradient", "Stochastic", "LRP", "random")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Figure 1 in all cells, of two digits and four methods."""
    results = Results("cells", tmp_path_factory.mktemp("cells"))
    scores = ("probability", "logit")
    for method in CELLS:
        todo = study.units(
            "cnn_mnist", "mnist", 2, [method], n_points=None, explains=scores
        )
        short = [
            Unit(
                {**u.settings, "arguments": {**u.settings["arguments"], **few}}, u.image
            )
            for u in todo
            for few in [FAST["Stochastic"] if method == "Stochastic" else {}]
        ]
        study.run(short, results)
    return results


@pytest.mark.parametrize("cell", study.CELLS)
def test_each_cell_of_figure1_against_a_loop(measured, cell):
    """The gradient of the output that is explained, its sign, and NumPy's quantiles."""
    methods = ("Gradient", "random")
    found = study.curves(measured, "cnn_mnist", "mnist", methods, cell=cell)
    model = models.load("cnn_mnist")
    for i in found["Gradient"].images:
        image = beds.load("mnist", [i], "cnn_mnist")
        decision = int(model(image).argmax())
        x = image.clone().requires_grad_()
        out = model(x).softmax(1) if cell.explains == "probability" else model(x)
        (scores,) = torch.autograd.grad(out[0, decision], x)
        scores = scores.abs() if cell.absolute else scores
        values = scores.flatten().double().numpy()
        for t, tau in enumerate(range(0, 101, 5)):
            limit = np.quantile(values, tau / 100)
            place = values.argsort(kind="stable").argsort()
            gone = {
                "below": values < limit,
                "at most": values <= limit,
                "position": place < tau * 784 // 100,
            }[cell.ties]
            flipped = image.flatten().clone()
            flipped[torch.from_numpy(gone)] = 0.5
            now = int(model(flipped.view_as(image)).argmax())
            assert bool(found["Gradient"].changed["grey"][i, t]) == (now != decision)


def test_rows_of_cells(measured):
    (row,) = [
        r
        for r in measured.rows(method="PertMap", explains="probability")
        if r["image"] == 0
    ]
    assert row["code"]
    found, queries = row["result"], row["result"]["queries"]
    assert queries == 80
    # Boxes have no sign; violations are not tested.
    assert not any("absolute" in name or name == "worst" for name in found)
    assert 0 < found["tied"] <= 1
    # LRP has no rule for a softmax: its maps are those of logits, flips are the same.
    one, two = (
        measured.rows(method="LRP", explains=e)[0]["result"]
        for e in ("logit", "probability")
    )
    assert one == two
    assert one["ratio"] > 0
    assert len([name for name in one if name.startswith("grey")]) == 6


def test_the_table_of_cells(measured, monkeypatch):
    monkeypatch.setitem(
        study.PUBLISHED,
        "Stochastic",
        study.PUBLISHED["Stochastic"] | FAST["Stochastic"],
    )
    found = study.cells(measured, "mnist", CELLS)
    assert list(found) == list(study.CELLS)
    table = study.cells_table(found)
    assert max(map(len, table.to_string(index=False).splitlines())) <= 88
    (authors,) = table[table.outputs == "probability*"].to_dict("records")
    assert (authors["rivals"], authors["ties"]) == ("absolute", "below")
    for (cell, of), (_, line) in zip(found.items(), table.iterrows(), strict=True):
        changed = of["Stochastic"].changed["grey"].double()
        half = float(changed[:, :11].mean(0).max())
        assert line["to 50 %"] == pytest.approx(half, abs=0.01)
        assert line["mean"] == pytest.approx(float(changed.mean()), abs=0.01)
        # Rivals of the paper, of which each is better, worse or neither.
        assert 0 <= line.better + line.worse <= len(CELLS) - 2
        assert line.outputs.rstrip("*") == cell.explains


def test_floors_know_nothing_but_the_place():
    image = torch.rand(1, 3, 5, 7)
    random = study.floor("random", image, 4)
    assert random.shape == image.shape
    assert torch.equal(random, study.floor("random", image, 4))
    assert not torch.equal(random, study.floor("random", image, 5))
    centre = study.floor("centre", image, 0)
    assert centre.shape == (1, 1, 5, 7)
    assert centre[0, 0, 2, 3] == 0
    assert centre[0, 0, 0, 0].item() == pytest.approx(-(13**0.5))


def fake(results: Results, flips: dict[str, list[str]]) -> None:
    """Rows with known flips."""
    for method, strings in flips.items():
        results.run(
            [
                Unit(
                    {
                        "model": "cnn_mnist",
                        "data": "mnist",
                        "method": study.LABELS.get(method, method),
                        "arguments": study.arguments(method, "cnn_mnist"),
                    },
                    i,
                )
                for i in range(len(strings))
            ],
            lambda unit, s=strings: {
                "target": 0,
                **dict.fromkeys(study.COLOURS, s[unit.image]),
            },
        )


def late(first: int) -> str:
    """Changed from the quantile with this index on."""
    return "0" * first + "1" * (21 - first)


def test_verdict_on_known_curves(tmp_path):
    results = Results("f", tmp_path)
    fake(
        results,
        {
            "Stochastic": [late(12)] * 10 + [late(8)] * 10,
            "Gradient": [late(5)] * 20,
            "LRP": [late(15)] * 20,
            "random": [late(9), late(12)] * 10,
        },
    )
    methods = ("Stochastic", "Gradient", "LRP", "random")
    found = study.curves(results, "cnn_mnist", "mnist", methods)
    said = study.verdict(found)
    assert said.worst_to_half == 0.5  # index 10 is 50 %; half the images changed
    assert said.better == ("LRP", "random")
    assert said.surely_better == ("LRP",)  # random: 1 and 0 quantiles apart on average
    assert said.surely_worse == ("Gradient",)
    perfect = {m: c for m, c in found.items() if m in ("Stochastic", "Gradient")}
    assert study.verdict(perfect).better == ()


def test_curves_take_the_images_that_all_methods_have(tmp_path):
    results = Results("f", tmp_path)
    fake(results, {"Gradient": [late(3)] * 4, "LRP": [late(4)] * 2})
    both = study.curves(results, "cnn_mnist", "mnist", ("Gradient", "LRP"))
    assert both["Gradient"].images == both["LRP"].images == (0, 1)
    assert len(both["Gradient"].changed["grey"]) == 2
    with pytest.raises(ValueError, match="no row of Occlusion"):
        study.curves(results, "cnn_mnist", "mnist", ("Occlusion",))


def test_settings_of_the_paper_and_of_small_images():
    assert study.arguments("Occlusion", "efficientnet_lite0")["window"] == 12
    large = study.arguments("Stochastic", "efficientnet_lite0")
    assert large["n_perturbations"] == 32
    assert large["lr"] == 0.01
    assert study.arguments("LP", "cnn_mnist") == {
        "bound": 0.1,
        "patch": 2,
        "penalty": 16.0,
    }
    changed = study.arguments("Stochastic", "cnn_mnist", {"Stochastic": {"lr": 1.0}})
    assert changed["lr"] == 1.0


def test_bad_arguments(tmp_path):
    results = Results("f", tmp_path)
    with pytest.raises(ValueError, match="methods must be one of Gradient"):
        study.run(study.units("cnn_mnist", "mnist", 1, ["gradient"]), results)
    with pytest.raises(ValueError, match="data must be one of mnist"):
        study.run(study.units("cnn_mnist", "imagenet", 1, ["Gradient"]), results)
    (unit,) = study.units("cnn_mnist", "mnist", 1, ["Gradient"])
    with pytest.raises(ValueError, match="mnist has 1000 images, got index 1000"):
        study.run([Unit(unit.settings, 1000)], results)
    with pytest.raises(ValueError, match="unknown model"):
        study.run(study.units("vgg61", "mnist", 1, ["Gradient"]), results)
    with pytest.raises(ValueError, match="n_images must be at least 1"):
        study.run(study.units("cnn_mnist", "mnist", 0), results)
    with pytest.raises(ValueError, match="method must be one of LP"):
        study.box_map("efficientnet_lite0", "chelsea", "LRP")
    assert not results.pending.exists()


def test_box_maps_are_computed_once(tmp_path, monkeypatch):
    settings = {"Stochastic": {"n_perturbations": 1, "n_iterations": 2, "lr": 0.25}}
    ask = ("efficientnet_lite0", "chelsea", "Stochastic", settings, tmp_path)
    first = study.box_map(*ask)
    assert first.shape == (1, 3, 224, 224)
    # Two steps of 0.25 at most.
    assert first.min().item() == pytest.approx(-0.5, abs=1 / 255)
    with np.load(next(tmp_path.glob("*.npz"))) as stored:
        assert json.loads(str(stored["key"]))[0]["photo"] == "chelsea"
        assert "date" in json.loads(str(stored["provenance"]))
    monkeypatch.setattr(StochasticPertMap, "attribute", None)
    assert torch.equal(study.box_map(*ask), first)


def test_keep_top_paints_the_rest_red():
    image = torch.full((3, 2, 5), 0.3)
    scores = torch.arange(10.0).view(1, 2, 5)
    kept = study.keep_top(image, scores, 80)
    red = (kept == torch.tensor([1.0, 0, 0])[:, None, None]).all(dim=0)
    assert red.flatten().tolist() == [True] * 8 + [False] * 2
    assert (kept[:, ~red] == 0.3).all()
    # The channels' scores are added up.
    by_channel = torch.stack([scores[0], -2 * scores[0], scores[0] * 0])
    assert not study.keep_top(image, by_channel, 80)[:, 0, 0].eq(0).any()
    with pytest.raises(ValueError, match="quantile must be"):
        study.keep_top(image, scores, 101)
