from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kendalltau, rankdata

from xai_book.studies import aise, geex, parquet, pertmap, showdown, standings
from xai_book.studies.costs import peak_memory
from xai_book.studies.results import Results
from xai_book.studies.showdown import Case, Label
from xai_lib import baselines
from xai_lib.core.image_range import stepping_outside
from xai_lib.geex import search_noise
from xai_lib.kernels import philox
from xai_lib.metrics import max_sensitivity
from xai_lib.zoo import models, photos, scenes

CNN = "cnn_mnist"
BENCH = showdown.bench(budgets=(100,))
CHEAP = {
    label: case
    for label, case in BENCH.items()
    if label.method in ("Gradient", "IG", "Occlusion", "GERS", "image")
}


def unit(label: Label, image: int, case: Case | None = None, data: str = "mnist"):
    cases = {label: case or BENCH[label]}
    return showdown.units(cases, data, [image])[0]


def test_rows_are_read_back_and_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setattr(showdown, "N_SENSITIVE", 2)
    results = Results("s", tmp_path)
    assert showdown.run(showdown.units(CHEAP, "mnist", [1, 20]), results) == 10
    assert (
        showdown.run(showdown.units(CHEAP, "mnist", [20, 21]), Results("s", tmp_path))
        == 5
    )
    results = Results("s", tmp_path)
    assert [row["image"] for row in results.rows()] == [1] * 5 + [20] * 5 + [21] * 5
    found = showdown.read(CHEAP, "mnist", results, "aopc")
    assert list(found) == list(CHEAP)
    assert all(values.shape == (3,) for values in found.values())
    other = showdown.read(CHEAP, "mnist", results, "aopc", "input")
    changed = {str(n) for n in found if not torch.equal(found[n], other[n])}
    assert changed == {"Gradient", "GERS 100"}
    # What only some cases or images have.
    assert Label("IG", None) not in showdown.read(CHEAP, "mnist", results, "agreement")
    stable = showdown.read(CHEAP, "mnist", results, "stability", "input")
    assert {len(values) for values in stable.values()} == {1}
    assert Label("image", None) not in stable
    asked = showdown.read(CHEAP, "mnist", results, "queries")
    assert {str(label) for label in asked} == {"Occlusion 100", "GERS 100"}
    with pytest.raises(ValueError, match="no image of mnist with 'bytes'"):
        showdown.read(CHEAP, "mnist", results, "bytes")
    with pytest.raises(ValueError, match="reading must be one of map, input"):
        showdown.read(CHEAP, "mnist", results, "aopc", "best")


def test_measures_are_those_of_loops():
    label = Label("Gradient", None)
    image = geex.load("mnist", [3], CNN)
    model = models.load(CNN)
    with torch.no_grad():
        target = int(model(image).argmax())
    found = showdown.measure(unit(label, 3))
    attribution = baselines.Gradient(model).attribute(image, target)

    def probability(images):
        with torch.no_grad():
            return model(images).softmax(1)[:, target].double()

    integrated = baselines.IntegratedGradients(model, n_steps=100)
    theirs = integrated.attribute(image, target).flatten()
    for suffix, values in (("", attribution), ("_input", attribution * image)):
        order = values.flatten().argsort(descending=True, stable=True)
        whole, deleted, inserted = image.flatten(), [], []
        for step in range(99):
            k = step * 784 // 98
            less, more = whole.clone(), torch.zeros(784)
            less[order[:k]] = 0
            more[order[:k]] = whole[order[:k]]
            deleted.append(less.view(1, 28, 28))
            inserted.append(more.view(1, 28, 28))
        curve = probability(torch.stack(deleted))
        drops = (curve[0] - curve[1:]) / curve[0]
        assert found["aopc" + suffix] == pytest.approx(float(drops.mean()), abs=1e-4)
        curve = probability(torch.stack(inserted))
        area = float((curve[1:] + curve[:-1]).sum()) / 2 / 98
        assert found["insertion" + suffix] == pytest.approx(area, abs=1e-4)
        lowest = values.flatten().argsort(stable=True)
        kept = 0
        for percent in range(0, 101, 5):
            grey = whole.clone()
            grey[lowest[: percent * 784 // 100]] = 0.5
            with torch.no_grad():
                kept += int(model(grey.view(1, 1, 28, 28)).argmax()) == target
        assert found["kept" + suffix] == pytest.approx(kept / 21, abs=1e-4)
        both = np.corrcoef(rankdata(values.flatten()), rankdata(theirs))[0, 1]
        assert found["agreement" + suffix] == pytest.approx(both, abs=1e-4)
    distances = []
    for i in range(showdown.N_NEAR):
        noise = philox.uniforms(0, i, 1, image.numel()).view_as(image)
        assert -1 <= noise.min() < -0.9 < 0.9 < noise.max() <= 1
        near = image + 0.02 * noise.float()
        with stepping_outside(by=0.02):
            moved = baselines.Gradient(model).attribute(near, target) - attribution
        distances.append(float(moved.norm() / attribution.norm()))
    assert found["stability"] == pytest.approx(-max(distances), abs=1e-4)


def test_the_image_itself_is_explained_once(monkeypatch):
    explained = []

    class Counted(baselines.RISE):
        def attribute(self, inputs, target=None, **settings):
            explained.append(inputs)
            return super().attribute(inputs, target, **settings)

    counted = showdown.METHODS["RISE"]._replace(explainer=Counted)
    monkeypatch.setitem(showdown.METHODS, "RISE", counted)
    label = Label("RISE", 100)
    found = showdown.measure(unit(label, 3))
    image, _ = showdown.load("mnist", 3)
    alike = [torch.equal(x, image) for x in explained]
    assert alike == [True, *[False] * showdown.N_NEAR]
    # The same number as when the metric explains all of them.
    model = models.probabilities(models.load(CNN))
    rise = baselines.RISE(model, **BENCH[label].arguments)
    change = max_sensitivity(
        rise.attribute, image, found["target"], n_samples=showdown.N_NEAR
    )
    assert found["stability"] == pytest.approx(-float(change), abs=1e-4)


@pytest.mark.parametrize("label", [label for label in BENCH if label.budget], ids=str)
def test_no_case_asks_more_than_its_budget(label):
    spent = showdown.measure(unit(label, 30))["queries"]
    assert 0.6 * label.budget <= spent <= label.budget


def test_passes_are_counted():
    fixed = {"n_samples": 7, "stdevs": 0.5, "seed": 1}
    few = {
        "Gradient": ({}, 1),
        # Two more of each find out whether inputs that are asked together meet.
        "SmoothGrad": (fixed, 7 + 2),
        "IG": ({"n_steps": 9}, 9 + 2),
        # One more each finds out whether the model has gradients, for PertMap another
        # one whether it keeps its class.
        "Extremal": ({"n_iterations": 3, "areas": [0.1, 0.2]}, 6 + 1 + 2),
        "PertMap": ({"n_perturbations": 2, "n_iterations": 5}, 10 + 2 + 2),
        # A copy of the image for each other class.
        "Linear PertMap": (BENCH[Label("Linear PertMap", None)].arguments, 9 + 2 + 2),
    }
    for method, (arguments, expected) in few.items():
        one = unit(Label(method, None), 40, Case(method, arguments))
        found = showdown.measure(one)
        assert found["passes"] == expected, method
        assert found["cost"] > 1
    # Their checks of themselves are passes, too.
    for method in ("GuidedBackprop", "LRP", "DeepLift", "GradCAM"):
        found = showdown.measure(unit(Label(method, None), 40))
        assert 1 <= found["passes"] <= 4, method
        assert found["cost"] > 1


def test_measuring_again_changes_only_the_cost():
    label = Label("AISE-random", 100)
    first, second = (showdown.measure(unit(label, 33)) for _ in range(2))
    assert first.pop("cost") > 50
    assert second.pop("cost") > 50
    assert first == second


def test_the_cases_follow_the_other_studies():
    full = showdown.bench()
    assert {label.method for label in full} == {
        *showdown.METHODS,
        *showdown.FLOORS,
    }
    assert Label("AISE-LIPO", 2000) not in full
    for method in ("GEEX", "GERS", "iGEEX"):
        theirs = geex.case(method, CNN, n_samples=500)
        assert full[Label(method, 500)].arguments == theirs.arguments
    waves = full[Label("GERS waves", 500)].arguments
    rule = geex.samplers(CNN)["low-frequency", 500]
    assert waves == rule.arguments
    strides = [full[Label("Occlusion", n)].arguments["stride"] for n in (100, 500)]
    assert strides == [3, 2]
    assert full[Label("Occlusion", 2000)].arguments == {"window": 5, "stride": 1}
    with pytest.raises(ValueError, match="budgets must be at least 100"):
        showdown.bench(budgets=(50,))
    with pytest.raises(ValueError, match="data must be one of mnist, fashion_mnist"):
        showdown.bench("digits")


def test_large_images_have_the_settings_of_large_images():
    model = "efficientnet_lite0"
    full = showdown.bench("photos")
    assert {label.method for label in full} == {
        *showdown.METHODS,
        *showdown.FLOORS,
        *showdown.SMOOTH_FLOORS,
    }
    for method in ("GEEX", "GERS", "iGEEX"):
        theirs = geex.case(method, model, n_samples=1000)
        assert full[Label(method, 1000)].arguments == theirs.arguments
    waves = full[Label("GERS waves", 1000)].arguments
    assert waves == geex.samplers(model)["low-frequency", 1000].arguments
    ascent = pertmap.arguments("Stochastic", model, pertmap.REDUCED)
    assert full[Label("PertMap", None)].arguments == ascent
    # A window of 40 pixels at 0, 23, …, 184, and at 0, 7, …, 182 and 184.
    strides = [full[Label("Occlusion", n)].arguments["stride"] for n in (100, 1000)]
    assert strides == [23, 7]
    assert full[Label("Occlusion", 100)].arguments["window"] == 40


def test_scenes_of_one_article():
    every = scenes.make(aise.LIMIT, 5, n_objects=(1, 4), sides=(0.2, 0.5))
    single = [i for i, boxes in enumerate(every.boxes) if len(boxes) == 1]
    for number in (0, 7):
        image, place = showdown.load("scenes", number)
        assert torch.equal(image, every.images[single[number], None])
        x0, y0, x1, y1 = every.boxes[single[number]][0].int().tolist()
        assert place.sum() == (x1 - x0) * (y1 - y0)
        assert place[0, y0:y1, x0:x1].all()
    with pytest.raises(ValueError, match=f"has {len(single)} images, got index 300"):
        showdown.load("scenes", 300)
    image, place = showdown.load("photos", 0)
    assert image.shape == (1, 3, 224, 224)
    assert place is None


def test_grids_whose_class_is_one_of_their_photographs():
    known = photos.labelled(size=224)
    model = models.load("efficientnet_lite0")
    cells = ((0, 0), (0, 112), (112, 0), (112, 112))
    where = set()
    for number in range(showdown.DATA["grids"].n_images):
        image, place = showdown.load("grids", number)
        assert place.shape == (1, 224, 224)
        (cell,) = [
            k
            for k, (y, x) in enumerate(cells)
            if place[0, y : y + 112, x : x + 112].all()
        ]
        assert place.sum() == 112**2
        where.add(cell)
        if number % 5 == 0:
            with torch.no_grad():
                target = int(model(image).argmax())
            # The photograph that is nearest to what the cell shows has that class.
            y, x = cells[cell]
            shown = image[0, :, y : y + 112, x : x + 112]
            small = F.interpolate(known.images, (112, 112), mode="area")
            nearest = int((small - shown).square().sum((1, 2, 3)).argmin())
            assert int(known.labels[nearest]) == target
    assert where == {0, 1, 2, 3}


def test_where_a_map_lies():
    image, place = showdown.load("grids", 1)
    spread = torch.zeros(1, 3, 224, 224)
    spread[:, :, :112] = 0.25  # the upper half, 0.75 over the channels
    half = place[0, :112].double().mean()
    found = showdown._on_place(spread, place, 0)
    assert found["energy"] == pytest.approx(float(half))
    assert found["pointing"] == pytest.approx(float(half))
    # A constant that a method adds to its map makes no difference.
    assert showdown._on_place(spread + 5, place, 0) == pytest.approx(found)
    case = showdown.bench("grids")[Label("GradCAM", None)]
    row = showdown.measure(unit(Label("GradCAM", None), 1, case, "grids"))
    assert "aopc" not in row
    model = models.load("efficientnet_lite0")
    attribution = baselines.GradCAM(model).attribute(image, row["target"])[0, 0]
    above = (attribution - attribution.mean()).clamp_min(0)
    assert row["energy"] == pytest.approx(
        float(above[place[0]].sum() / above.sum()), abs=1e-4
    )
    y, x = divmod(int(attribution.argmax()), 224)
    assert row["pointing"] == float(place[0, y, x])


@pytest.mark.parametrize("method", ["SmoothGrad", "lumps"])
def test_measures_on_scenes_are_those_of_loops(method):
    label = Label(method, None)
    case = showdown.bench("scenes")[label]
    found = showdown.measure(unit(label, 2, case, "scenes"))
    image, place = showdown.load("scenes", 2)
    model = models.load("scenes_classifier")
    with torch.no_grad():
        target = int(model(image).argmax())
    assert found["target"] == target
    if method == "SmoothGrad":
        explainer = baselines.SmoothGrad(model, n_samples=100, stdevs=0.15, seed=1)
        attribution, suffix = explainer.attribute(image, target) * image, "_input"
        assert found["passes"] == 100 + 2
        assert found["stability"] < 0
        y, x = divmod(int(attribution.argmax()), 112)
        assert place[0, y, x]
        assert found["pointing_input"] == 1
    else:
        masks = geex.floors("scenes_classifier")["lumps"].arguments
        forward, _ = next(
            search_noise(shape=(1, 112, 112), n_samples=2, seed=2, **masks)
        )
        attribution, suffix = forward, ""
    order = attribution.flatten().argsort(descending=True, stable=True)
    deleted = []
    for step in range(99):
        less = image.flatten().clone()
        less[order[: step * 112 * 112 // 98]] = 0
        deleted.append(less.view(1, 112, 112))
    with torch.no_grad():
        curve = model(torch.stack(deleted)).sigmoid()[:, target].double()
    drops = (curve[0] - curve[1:]) / curve[0]
    assert found["aopc" + suffix] == pytest.approx(float(drops.mean()), abs=1e-3)


def test_floors_know_the_image_at_most():
    image = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    centre = showdown.floor("centre", image, 0)
    assert centre.shape == (1, 1, 4, 6)
    assert centre[0, 0, 1, 2] == pytest.approx(-math.hypot(0.5, 0.5))
    assert torch.equal(showdown.floor("image", image, 0), image.mean(1, keepdim=True))
    random = [showdown.floor("random", image, i) for i in (0, 0, 1)]
    assert torch.equal(random[0], random[1])
    assert not torch.equal(random[0], random[2])


def test_rank_correlation_of_a_constant_map_is_zero():
    values = torch.arange(6.0)
    assert showdown.rank_correlation(values, torch.ones(6)) == 0
    assert showdown.rank_correlation(values, values.exp()) == 1
    assert showdown.rank_correlation(values, -values) == -1


def test_peak_memory_counts_what_is_held_at_once():
    def work():
        for _ in range(3):
            first = torch.zeros(1000)
            second = torch.zeros(250)
            del first, second

    assert peak_memory(work) == pytest.approx(4 * 1250, abs=130)


# ---- statements

RNG = np.random.default_rng(3)


def scores(**rows) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}


def test_ranking_by_brute_force():
    values = {name: torch.from_numpy(RNG.normal(m, 1, 12)) for name, m in
              (("a", 0.0), ("b", 0.2), ("c", 1.0), ("d", -3.0))}  # fmt: skip
    found = showdown.ranking(values, n_resamples=400, seed=5)
    assert list(found) == sorted(values, key=lambda n: -float(values[n].mean()))
    assert [place.rank for place in found.values()] == [1, 2, 3, 4]
    draws = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), 400)
    ranks = []
    for counts in draws:
        means = {n: float(v.numpy().repeat(counts).mean()) for n, v in values.items()}
        ranks.append([1 + sum(m > means[n] for m in means.values()) for n in values])
    for column, name in zip(np.array(ranks).T, values, strict=True):
        low, high = np.quantile(column, [0.025, 0.975])
        assert found[name][1:] == (low, high)
    assert found["d"] == (4, 4, 4)


def test_equal_means_share_a_rank():
    found = showdown.ranking(scores(a=[1, 2], b=[1, 2], c=[0, 0]))
    assert [found[n].rank for n in "abc"] == [1.5, 1.5, 3]


def test_ties_are_ties_in_the_last_bit():
    """Sums in another order: equal in decimals, not in floats."""
    one, other = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    a, b = scores(a=one, b=other).values()
    assert a.sum() / 3 != b.sum() / 3 or sum(one) != sum(other)
    for names in ("ab", "ba"):
        pair = {name: {"a": a, "b": b}[name] for name in names}
        assert [p.rank for p in showdown.ranking(pair).values()] == [1.5, 1.5]
        assert list(showdown.ranking(pair)) == list(names)  # in their own order
    assert not showdown.told(a.repeat(9) + 1e-15, b.repeat(9).sort().values[:27])
    means = {name: sum(v) / 3 for name, v in (("a", one), ("b", other))}
    for costs in ({"a": 500.0, "b": 500.0000004}, {"a": 500.0000004, "b": 500.0}):
        assert showdown.pareto(costs, means) == ["a"]
    dear = {"cheap": 1.0, "dear": 2.0}
    assert showdown.pareto(dear, {"cheap": sum(other), "dear": sum(one)}) == ["cheap"]
    third = [scores(a=[1.0, 0.5], b=[0.5, 1.0], c=[0.0, 0.0])] * 3
    first, second, _ = showdown.mean_rank(third).values()
    assert first.mean() == second.mean()


def test_pairs_are_told_by_their_differences():
    """Images differ a lot, the two methods on the same image little but surely."""
    images = RNG.normal(0, 10, 40)
    better = torch.from_numpy(images + RNG.normal(0.2, 0.1, 40))
    worse = torch.from_numpy(images)
    assert showdown.told(better, worse)
    assert not showdown.told(worse, better)
    shuffled = torch.from_numpy(RNG.permutation(images))
    assert not showdown.told(better, shuffled)
    pair = {"worse": worse, "shuffled": shuffled, "better": better}
    assert next(iter(showdown.ranking(pair))) == "better"
    assert ("better", "worse") not in showdown.ties(pair)
    assert len(showdown.ties(pair)) == 1 or ("better", "shuffled") in showdown.ties(
        pair
    )


@pytest.mark.parametrize("decimals", [0, 6])
def test_agreement_is_kendalls_tau(decimals):
    first, second = (
        {str(i): torch.from_numpy(RNG.normal(i / 3, 1, 20).round(decimals))
         for i in range(7)}
        for _ in range(2)
    )  # fmt: skip
    second["only here"] = torch.zeros(20)
    found = showdown.agreement(first, second)
    means = [[float(s[str(i)].mean()) for i in range(7)] for s in (first, second)]
    assert found.tau == pytest.approx(kendalltau(*means).statistic)
    assert -1 <= found.low <= found.high <= 1
    itself = showdown.agreement(first, first)
    assert itself == (1, 1, 1)
    ties = {"a": 1, "b": 1, "c": 0, "d": 2}
    other = {"a": 3, "b": 1, "c": 0, "d": 0}
    found = showdown.agreement(
        scores(**{n: [v] for n, v in ties.items()}),
        scores(**{n: [v] for n, v in other.items()}),
    )
    expected = kendalltau(list(ties.values()), list(other.values())).statistic
    assert found.tau == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least 3 common names, got 2"):
        showdown.agreement(scores(a=[1], b=[2]), scores(a=[1], b=[2], c=[3]))


def test_mean_rank_by_hand():
    first = scores(a=[3, 0], b=[2, 5], c=[1, 1])
    second = scores(c=[9, 2], b=[9, 1], a=[0, 3])
    found = showdown.mean_rank([first, second])
    assert found["a"].tolist() == [-(1 + 3) / 2, -(3 + 1) / 2]
    assert found["b"].tolist() == [-(2 + 1.5) / 2, -(1 + 3) / 2]
    assert found["c"].tolist() == [-(3 + 1.5) / 2, -(2 + 2) / 2]


def test_pareto_by_brute_force():
    for _ in range(20):
        costs = dict(enumerate(RNG.integers(1, 6, 9)))
        quality = dict(enumerate(RNG.integers(1, 6, 9) / 10))
        front = showdown.pareto(costs, quality)
        for name in costs:
            beaten = any(
                costs[o] <= costs[name]
                and quality[o] >= quality[name]
                and (costs[o], quality[o]) != (costs[name], quality[name])
                for o in costs
            )
            twin = any(
                (costs[o], quality[o]) == (costs[name], quality[name]) for o in front
            )
            assert twin != beaten
        for a, b in itertools.pairwise(front):
            assert costs[a] < costs[b]
            assert quality[a] < quality[b]


def test_alike_are_those_that_the_images_cannot_tell_from_the_best():
    noise = RNG.normal(0, 1, (3, 50))
    base = {n: torch.from_numpy(row) for n, row in zip("abc", noise, strict=True)}
    values = {"best": base["a"] + 5.001, "like it": base["a"] + 5 + 0.1 * base["b"],
              "worse": base["c"]}  # fmt: skip
    assert set(standings.alike(values)) == {"best", "like it"}
    same = {"a": torch.ones(3), "b": torch.ones(3)}
    assert standings.alike(same) == ["a", "b"]


def test_decisions_respect_budget_access_and_floors():
    noise = torch.from_numpy(RNG.normal(0, 0.1, 50))
    white, dear, cheap = Label("IG", None), Label("RISE", 2000), Label("RISE", 100)
    floor, lumps = Label("random", None), Label("lumps", None)
    values = {white: noise + 3, dear: noise + 2, cheap: noise + 1, floor: noise}
    found = showdown.decide(values, None, gradients=True)
    assert found == (white, (white,), floor)
    assert showdown.decide(values, None, gradients=False).label == dear
    assert showdown.decide(values, 1999, gradients=False).label == cheap
    assert showdown.decide(values, 100, gradients=True).label == white
    assert showdown.decide(values, 99, gradients=False) is None
    # A floor between the two, and one that is as good as the best.
    high = values | {lumps: noise + 1.5}
    assert showdown.decide(high, None, gradients=False) == (dear, (dear,), lumps)
    found = showdown.decide(high, 100, gradients=False)
    assert found == (None, (cheap,), lumps)
    # Of two alike, the cheaper one, if it is above the floor.
    other = torch.from_numpy(RNG.normal(0, 5, 50))
    wide = {dear: noise + 2, cheap: noise + other - other.mean() + 1.9}
    assert set(standings.alike(wide)) == {dear, cheap}
    assert showdown.decide(wide, None, gradients=False) == (cheap, (dear, cheap), None)
    found = showdown.decide({**wide, floor: noise + 1}, None, gradients=False)
    assert found == (dear, (dear, cheap), floor)


def test_tables_of_all_studies():
    found = {(table.data, table.measure): table for table in showdown.tables()}
    on_bench = {(bed.name, m) for bed in showdown.DATA.values() for m in bed.measures}
    assert on_bench < set(found)
    for table in found.values():
        assert len({len(values) for values in table.scores.values()}) == 1
        unknown = {
            label.method
            for label in table.scores
            if label.method not in (*showdown.METHODS, *showdown.KNOWS_NOTHING)
        }
        assert unknown <= {"D-RISE", "AISE-lattice"}
        assert all(
            label.budget
            for label in table.scores
            if label.method in (*showdown.ASKING, "D-RISE", "AISE-lattice")
        )
    assert found["scenes (08)", "pointing"].decides
    assert {label.method for label in found["scenes (08)", "stability"].scores} >= {
        "AISE-DIRECT",
        "Gradient",
        "GradCAM",
    }
    assert all(
        bool((v <= 0).all()) for v in found["scenes", "stability"].scores.values()
    )
    hits = found["grids", "pointing"].scores
    assert all(bool(((v >= 0) & (v <= 1)).all()) for v in hits.values())
    for data in ("MNIST", "Fashion-MNIST", "photographs", "scenes"):
        benched = {label.method for label in found[data, "insertion"].scores}
        assert benched >= set(showdown.METHODS), data
        assert found[data, "insertion"].decides
        if (data, "stability") in found:
            assert found[data, "stability"].decides


def test_what_is_not_measured_is_left_out(tmp_path):
    assert showdown.tables(tmp_path) == []


def test_of_two_settings_the_published_one_counts(tmp_path):
    """Extremal perturbations run on grids with all their steps, and with 200."""
    grid, energy = aise.grid_table(), {"Extremal-200": 0.9, "Extremal": 0.1}
    rows = Results("aise_grids").rows(data="grids 2x2", method="Gradient")[:5]
    made = []
    for label, value in energy.items():
        (unit,) = aise.units({label: grid[label]}, "grids 2x2", [0])
        for row in rows:
            result = row["result"] | {"energy_cell": [value] * 4}
            made.append(row | {"settings": unit.settings, "result": result})
    parquet.write(tmp_path / "aise_grids.parquet", made)
    found = {table.measure: table for table in showdown.tables(tmp_path)}
    assert found["energy"].scores.keys() == {Label("Extremal", None)}
    means = found["energy"].scores[Label("Extremal", None)]
    assert means.numpy() == pytest.approx(np.full(5, 0.1))


def test_a_method_with_few_scenes_does_not_cost_the_others_theirs(tmp_path):
    names = {"Gradient": 30, "GradCAM": 30, "Extremal": 5}
    kept = [
        row
        for row in Results("aise_scenes").rows()
        if row["settings"]["measures"] == "pointing"
        and row["image"] < names.get(row["settings"]["method"], 0)
    ]
    parquet.write(tmp_path / "aise_scenes.parquet", kept)
    found = {table.measure: table for table in showdown.tables(tmp_path)}
    assert {label.method for label in found["pointing"].scores} == {
        "Gradient",
        "GradCAM",
    }
    assert all(table.decides for table in found.values())
    few = [row for row in kept if row["image"] < 12]
    parquet.write(tmp_path / "aise_scenes.parquet", few)
    assert not any(table.decides for table in showdown.tables(tmp_path))


def test_means_over_the_pairs_of_an_image():
    image = torch.tensor([7, 3, 7, 7])
    numbers = torch.tensor([1.0, 5.0, 0.0, 0.5]).double()
    assert aise.image_means(numbers, image).tolist() == [5, 0.5]


def test_scores_must_be_of_the_same_images():
    with pytest.raises(ValueError, match=r"for the same images, got \[2, 3\] numbers"):
        showdown.ranking({"a": torch.ones(2), "b": torch.ones(3)})
    with pytest.raises(ValueError, match="at least one name"):
        showdown.ranking({})


@pytest.mark.parametrize("data", list(showdown.DATA))
def test_the_stored_rows_are_those_of_the_bench(data):
    """The chapter's figures need every case; the floors tell that rows are no dust."""
    results = Results(f"showdown_{data}")
    where = (showdown.bench(data), data, results)
    bed = showdown.DATA[data]
    for measure in bed.measures:
        if measure not in ("agreement", "stability"):
            found = showdown.read(*where, measure)
            assert list(found) == list(showdown.bench(data))
            assert len(found[Label("IG", None)]) == bed.n_images
    shown = showdown.read(
        *where, "insertion" if "insertion" in bed.measures else "energy"
    )
    shap = shown[Label("KernelSHAP", bed.budgets[-1])]
    assert shap.mean() > shown[Label("random", None)].mean() + 0.1
    for label, spent in showdown.read(*where, "queries").items():
        assert label.budget is not None
        assert spent.max() <= label.budget
