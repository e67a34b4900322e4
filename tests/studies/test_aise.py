from __future__ import annotations

import json
import pickle
from collections.abc import Iterator

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from xai_book.data import torchray, voc
from xai_book.data.annotated import Annotated
from xai_book.studies import aise as study
from xai_book.studies import beds, hardware, pictures, pointing_game, saliencies
from xai_book.studies.results import NotMeasured, Results, Unit
from xai_lib import baselines
from xai_lib.aise import AISE, DirectSampler, gaussian_masks
from xai_lib.core.blackbox import BlackBox
from xai_lib.metrics import pointing_hits
from xai_lib.zoo import models, scenes

FEW = {"sampler": "direct", "kernel_widths": [0.1, 0.25], "n_kernels": 6}
SMALL = {
    "AISE": study.Case("AISE", FEW),
    "RISE": study.Case("RISE", {"n_samples": 40}),
    "Gradient": study.Case("Gradient", {"smooth": 0.02}),
    "random point": study.Case("flat", {}),
}
TWO = 2  # a scene with two classes


def unit(case: study.Case, image: int, **changes: str) -> Unit:
    (found,) = study.units({"": case}, changes.pop("data", "scenes"), [image])
    return found


def probability(images: Tensor, target: int) -> Tensor:
    with torch.no_grad():
        return models.load("scenes_classifier")(images)[:, target].sigmoid()


def test_the_table_has_the_papers_rows() -> None:
    table, grid = study.table(), study.grid_table()
    for data in study.published_table().values():
        assert list(table)[:10] == list(data)
    assert list(table)[10:] == ["random point", "centre"]
    assert set(grid) - set(table) == {"Extremal-200", "RISE-2000", "SHAP-2000"}
    assert all(grid[label] == case for label, case in table.items())
    samplers = study.grid_samplers()
    assert samplers["direct", 300] == table["AISE-DIRECT-300"]
    published = {
        "300": ([0.1, 0.175, 0.25], 50),
        "700": ([0.075, 0.13, 0.19, 0.25], 87),
    }
    for label, (method, arguments) in table.items():
        if method == "AISE":
            _, sampler, budget = label.split("-")
            assert arguments == {
                "sampler": sampler.lower(),
                "kernel_widths": published[budget][0],
                "n_kernels": published[budget][1],
            }
        if method in ("RISE", "KernelSHAP"):
            assert arguments["n_samples"] == 8000
    assert study.published_table()["COCO14 ResNet50"]["AISE-DIRECT-700"] == 68.7
    assert study.published_table()["VOC07 VGG16"]["Gradient"] == 86.0


def test_maps_of_figures_are_kept(tmp_path, monkeypatch) -> None:
    image = study.scenes_of("scenes").images[TWO : TWO + 1]
    few = {"n_samples": 20, "mask_size": 4, "p": 0.5}
    cases = {"a": study.Case("RISE", few), "b": study.Case("RISE", few | {"p": 0.4})}
    where = ("scenes_classifier", image, "two", 3, tmp_path)
    first = study.maps(cases, *where)
    monkeypatch.setattr(saliencies, "attribute", None)  # nothing is computed again
    again = study.maps(cases, *where)
    assert len(list(tmp_path.glob("two_rise_*.npz"))) == 2
    for label, case in cases.items():
        assert torch.equal(first[label], again[label])
        explainer = baselines.RISE(
            models.probabilities(models.load("scenes_classifier")),
            **case.arguments,
        )
        expected = explainer.attribute(image, 3)
        expected = expected - expected.mean()
        step = float(expected.abs().max()) / 127
        torch.testing.assert_close(first[label], expected, rtol=0, atol=0.51 * step)
    with pytest.raises(TypeError):  # another class is another map
        study.maps(cases, *where[:3], 4, tmp_path)


def test_every_case_can_be_measured_and_stored() -> None:
    """Small copies of all cases run, and their rows are JSON."""
    every = {**study.grid_table(), **study.grid_samplers(), **study.variants()}
    small = {
        "n_samples": 6,
        "n_kernels": 6,
        "n_iterations": 2,
        "areas": [0.1],
        "n_segments": 8,
    }
    for label, case in every.items():
        if case.method == "KernelSHAP":  # twice as many as there are superpixels
            small["n_samples"] = 30
        changed = {k: small.get(k, v) for k, v in case.arguments.items()}
        small["n_samples"] = 6
        row = study.measure(unit(study.Case(case.method, changed), TWO))
        json.dumps(row, allow_nan=False)
        assert len(row["target"]) == len(row["energy_box"]) == 2, label
        assert (row["queries"] is None) == (case.method in saliencies.WHITE_BOX)
    pickle.dumps((study.measure, unit(SMALL["AISE"], 0)))


def test_only_confident_classes_are_explained() -> None:
    every = scenes.make(12, study.DATA["scenes"]["seed"])
    counts = []
    for i in range(12):
        present = sorted(set(every.classes[i].tolist()))
        sure = [c for c in present if probability(every.images[i][None], c) >= 0.5]
        row = study.measure(unit(SMALL["random point"], i))
        assert row["target"] == sure
        others = study.measure(unit(SMALL["random point"], i, data="unsure"))
        assert others["target"] == [c for c in present if c not in sure]
        counts.append(len(present) - len(sure))
        for k, c in enumerate(sure):
            of_class = every.masks[i][every.classes[i] == c].any(dim=0)
            share = float(of_class.double().mean())
            assert row["area"][k] == pytest.approx(share, abs=1e-5)
            assert row["difficult"][k] == (share < 0.25 and len(present) > 1)
            assert row["objects"][k] == len(every.classes[i])
    assert sum(counts) > 0  # some are left out


@pytest.mark.parametrize("kernel", saliencies.KERNELS)
def test_other_kernels_cover_the_same_area(kernel: str) -> None:
    direct = study.variants()[f"{kernel} kernel"].arguments
    seen = []
    ask = pictures.blackbox("scenes_classifier")
    explainer = saliencies._aise("scenes_classifier", direct, 0)
    explainer.blackbox = lambda images: seen.append(images.clone()) or ask(images)
    found = explainer.sample(torch.ones(1, 1, 112, 112), target=0)
    # On a white image the first queries of preserving are the masks themselves.
    k = len(seen[0]) // 2
    masks, removed = seen[0][:k, 0], seen[0][k:, 0]
    torch.testing.assert_close(masks + removed, torch.ones_like(masks))
    # The first step of each search is the middle and four places around it.
    for mask, width in zip(masks[::5], (0.1, 0.175, 0.25), strict=True):
        middles = (torch.arange(112, dtype=torch.float64) + 0.5) / 112
        away = (middles - 0.5).abs() / width
        if kernel == "square":
            of_line = (away < 1.2533141).double()
            share = float(mask.double().mean())
            assert share == pytest.approx(2 * torch.pi * width**2, rel=0.04)
        else:
            of_line = (1 - away / 2.5066283).clamp_min(0)
        expected = of_line[:, None] * of_line
        torch.testing.assert_close(mask.double(), expected, atol=1e-6, rtol=0)
    assert found.scores.shape == (1, 3, 50)


def test_where_a_map_points_by_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 1, 20, 30, generator=generator)
    maps[1, 0, 4, 6] = maps[1, 0, 12, 27] = 2  # two maxima
    maps[2] = 1  # as many as pixels
    mask = torch.zeros(3, 20, 30, dtype=torch.bool)
    mask[:, 3:8, 5:9] = True
    found = study.judge(maps, {"mask": mask})
    inside = [(i, j) for i in range(20) for j in range(30) if mask[0, i, j]]
    for k in range(3):
        top = (maps[k, 0] == maps[k].max()).nonzero().tolist()
        away = [
            min(((i - a) ** 2 + (j - b) ** 2) ** 0.5 for a, b in inside) for i, j in top
        ]
        mean = sum(away) / len(away)
        assert found["distance_mask"][k] == pytest.approx(mean, abs=1e-3)
        share = float(maps[k, 0][mask[k]].sum() / maps[k].sum())
        assert found["energy_mask"][k] == pytest.approx(share, abs=1e-4)
    shares = pointing_game.hit_shares(found["maxima_mask"])
    for hits, tolerance in zip(shares.T, study.TOLERANCES, strict=True):
        expected = pointing_hits(maps, mask, tolerance)
        torch.testing.assert_close(hits, expected, atol=1e-3, rtol=0)


def test_floors_know_nothing() -> None:
    flat = study.measure(unit(SMALL["random point"], TWO))
    # A random point hits as often as the box is large.
    on_the_box = pointing_game.hit_shares(flat["maxima_box"])[:, 0]
    assert on_the_box.tolist() == pytest.approx(flat["energy_box"], abs=1e-4)
    middle = beds.floor("centre", torch.zeros(1, 1, 20, 30))[0, 0]
    top = (middle == middle.max()).nonzero().tolist()
    assert top == [[9, 14], [9, 15], [10, 14], [10, 15]]


def test_maps_by_other_means() -> None:
    """AISE and RISE on one class at a time, TorchRay's smoothed gradient by SciPy."""
    picture = pictures.picture("scenes", TWO)
    image, target = picture.image, picture.target
    assert len(target) == 2
    scorer = models.probabilities(models.load("scenes_classifier"))
    maps, queries = saliencies.explain(SMALL["AISE"], picture, seed=TWO)
    assert queries == 2 * 2 * 2 * 6
    for k, t in enumerate(target.tolist()):
        aise = AISE(scorer, "direct", (0.1, 0.25), 6, seed=TWO)
        torch.testing.assert_close(maps[k : k + 1], aise.attribute(image, t))
    maps, queries = saliencies.explain(SMALL["RISE"], picture, seed=TWO)
    assert queries == 40
    for k, t in enumerate(target.tolist()):
        one = baselines.RISE(scorer, 40, seed=TWO).attribute(image, t)[0, 0]
        torch.testing.assert_close(maps[k, 0], one - one.mean(), atol=1e-5, rtol=1e-4)
    maps, queries = saliencies.explain(SMALL["Gradient"], picture, seed=0)
    assert queries is None
    for k, t in enumerate(target.tolist()):
        x = image.clone().requires_grad_()
        models.load("scenes_classifier")(x)[0, t].backward()
        smoothed = gaussian_filter(x.grad[0, 0].abs().numpy(), 2.24, mode="constant")
        torch.testing.assert_close(maps[k, 0].numpy(), smoothed, atol=1e-6, rtol=1e-4)


def test_forms_from_the_same_samples() -> None:
    """The plain sum by its definition; and the covariance is the plain sum less what a
    constant model of the same mean gets."""
    picture = pictures.picture("scenes", TWO)
    samples = AISE(pictures.blackbox(picture.model), "direct", (0.2,), 9).sample(
        picture.image, picture.target[:1]
    )
    p, s = samples.centres[0, 0], samples.scores[0, 0]
    kernels = gaussian_masks(p, 0.2, 112, 112) / (2 * torch.pi * 0.04)
    maps = {
        form: saliencies.density(
            samples.centres, samples.scores, samples.widths, picture.image, form
        )[0, 0]
        for form in saliencies.FORMS
    }
    plain = (s[:, None, None] * kernels).mean(dim=0)
    torch.testing.assert_close(maps["plain sum"].double(), plain, atol=1e-5, rtol=1e-4)
    constant = s.mean() * kernels.mean(dim=0)
    torch.testing.assert_close(
        maps["covariance"].double(), plain - constant, atol=1e-5, rtol=1e-4
    )
    assert not torch.allclose(maps["normalised"], maps["covariance"])


def test_the_papers_sum_has_f_of_x() -> None:
    """P of preserve plus drop, both asked anew at the centres; and M does not have to
    know f(x)."""
    picture = pictures.picture("scenes", TWO)
    two = {"sampler": "random", "kernel_widths": [0.2, 0.3], "n_kernels": 5}
    (one,) = study.as_written({"": study.Case("AISE", two)}).values()
    (maps, queries), (few, asked) = saliencies.by_queries(one, picture, 4, (20, 8))
    assert (queries, asked) == (2 * 20 + 1, 2 * 8 + 1)
    again, counted = saliencies.explain(one, picture, 4)
    assert counted == queries
    torch.testing.assert_close(again, maps)
    for k, target in enumerate(picture.target.tolist()):
        found = AISE(pictures.blackbox(picture.model), seed=4, **two).sample(
            picture.image, target
        )
        f_x, total, of_two = probability(picture.image, target), 0.0, 0.0
        for p, sigma in zip(found.centres[0], (0.2, 0.3), strict=True):
            masks = gaussian_masks(p, sigma, 112, 112)[:, None].float()
            shown, hidden = picture.image * masks, picture.image * (1 - masks)
            drop = f_x - probability(hidden, target)
            scores = (probability(shown, target) + drop)[:, None, None]
            kernels = masks[:, 0] / (2 * torch.pi * sigma**2)
            total = total + (scores * kernels).mean(dim=0)
            of_two = of_two + (scores * kernels)[:2].mean(dim=0)
        torch.testing.assert_close(maps[k, 0], total, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(few[k, 0], of_two, atol=1e-4, rtol=1e-3)


def test_what_is_measured_as_the_paper_writes_it() -> None:
    table = study.as_written(study.table())
    assert list(table) == [n for n in study.table() if n.startswith("AISE")]
    for label, (_, arguments) in table.items():
        plain = study.table()[label].arguments
        assert arguments == plain | {"form": "sum with f(x)"}
    converging = study.convergence_as_written()
    assert {label[1] for label in converging} == {"default"}
    assert {label[0] for label in converging} == {"random", "LIPO", "DIRECT"}
    every = study.STUDIES["aise_scenes"].units()
    assert {u.key for u in study.units(table, "scenes", [324])} <= {
        u.key for u in every
    }


def test_forms_of_direct() -> None:
    expected = {"locally biased": (True, False), "convex hull": (False, True)}
    for name, (biased, hull) in expected.items():
        sampler = saliencies.SAMPLERS[name](((0, 0), (1, 1)), 10, 0)
        assert isinstance(sampler, DirectSampler)
        assert (sampler.locally_biased, sampler.convex_hull) == (biased, hull)
        assert sampler.eps == 0.1


def test_coarse_to_fine_narrows_the_search() -> None:
    """A model that sees one spot: later widths stay around it, and find it better."""
    spot = torch.zeros(48, 48)
    spot[30:34, 10:14] = 1 / 16
    asked: list[Tensor] = []

    def model(images: Tensor) -> Tensor:
        asked.append(images[:, 0])
        return (images[:, 0] * spot).sum(dim=(1, 2))[:, None]

    image = torch.ones(1, 1, 48, 48)
    found = study.coarse_to_fine(model, image, 0, (0.1, 0.2), 12)[0, 0]
    row, column = divmod(int(found.argmax()), 48)
    assert 28 <= row < 36
    assert 8 <= column < 16
    shown = torch.cat(asked)
    assert len(shown) == 2 * 2 * 12
    # Preserved images are the masks themselves: the narrow ones, brighter in the
    # middle than their mean, have their centres in the square around the maximum.
    masks = [m for m in shown if m.mean() < 0.2]
    wide = AISE(model, "direct", (0.2,), 12).attribute(image, 0)[0, 0]
    peak = torch.tensor(divmod(int(wide.argmax()), 48))
    narrow = [m for m in masks if float((m > 0.5).double().mean()) < 0.06]
    centres = [torch.tensor(divmod(int(m.argmax()), 48)) for m in narrow]
    assert len(centres) >= 12
    assert all(int((c - peak).abs().max()) <= 0.4 * 48 + 1 for c in centres)


def test_prefixes_are_runs_of_their_own() -> None:
    """A budget of `convergence` finds what a run with this budget alone finds."""
    for (sampler, widths), case in study.convergence().items():
        few = [30, 60]
        all_at_once = study.Case(case.method, {**case.arguments, "queries": few})
        row = study.measure(unit(all_at_once, TWO))
        assert len(row["energy_box"]) == len(few)
        each = 1 if sampler == "RISE" else 2 * len(study.WIDTHS[widths])
        for b, n in enumerate(few):
            counts = "n_samples" if sampler == "RISE" else "n_kernels"
            alone = {**case.arguments, counts: n // each}
            del alone["queries"]
            one = study.measure(unit(study.Case(case.method, alone), TWO))
            for name in ("maxima_mask", "energy_mask", "distance_box", "queries"):
                assert row[name][b] == one[name], (sampler, widths, n)
            assert one["queries"] == n * (1 if sampler == "RISE" else 2)


def test_budgets_of_convergence_are_whole_samples() -> None:
    for sigmas in study.WIDTHS.values():
        assert all(n % (2 * len(sigmas)) == 0 for n in study.QUERIES)


def test_grids_are_cells_of_sure_photographs() -> None:
    for data, side in (("grids 2x2", 2), ("grids 3x3", 3)):
        picture = pictures.picture(data, 1)
        assert picture.image.shape == (1, 3, 112 * side, 112 * side)
        assert len(picture.target) == len(set(picture.target.tolist())) == 4
        for target, cell in zip(picture.target, picture.places["cell"], strict=True):
            rows, columns = cell.nonzero().unbind(1)
            assert int(cell.sum()) == 112**2
            y, x = int(rows.min()), int(columns.min())
            assert (int(rows.max()) - y, int(columns.max()) - x) == (111, 111)
            # The photograph of this class is what the cell shows.
            images, classes = pictures.sure_photos()
            shown = picture.image[0, :, y : y + 112, x : x + 112]
            small = torch.nn.functional.interpolate(
                images[classes == target], (112, 112), mode="bilinear", antialias=True
            )
            assert (small - shown).abs().amax(dim=(1, 2, 3)).min() < 1e-5


@pytest.fixture
def photographs(monkeypatch) -> Iterator[list[Annotated]]:
    """Two made-up photographs of 60 x 90 and 90 x 50, a small network for VOC's
    classes that is always sure, and the network's size halved."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for height, width in ((60, 90), (90, 50)):
        masks = torch.zeros(3, height, width, dtype=torch.bool)
        masks[0, :10, :20] = masks[1, 20:30, 5:9] = masks[2, 40:, 30:] = True
        boxes = torch.tensor([[0, 0, 20, 10], [5, 20, 9, 30], [30, 40, width, height]])
        found.append(
            Annotated(
                torch.rand(1, 3, height, width, generator=generator),
                boxes.float(),
                torch.tensor([4, 4, 7]),
                masks,
                torch.tensor([False, True, True]),
                voc.CATEGORIES,
            )
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 8, 5, 2),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(8, 20),
            torch.nn.Sigmoid(),
        )
    torch.nn.init.constant_(network[4].bias, 3)
    network.eval().requires_grad_(False)
    asked = []
    monkeypatch.setattr(
        pictures, "_photographs", lambda kind: asked.append(kind) or found
    )
    monkeypatch.setattr(hardware, "model", lambda name: network[:5])
    boxes = {kind: BlackBox(network, backend="torch") for kind in (None, "torch")}
    monkeypatch.setattr(pictures, "blackbox", lambda name, kind=None: boxes[kind])
    prepare = torchray.prepare
    monkeypatch.setattr(torchray, "prepare", lambda image: prepare(image, 25))
    pictures.picture.cache_clear()
    yield found
    pictures.picture.cache_clear()
    assert set(asked) == {"voc07"}


def test_photographs_have_their_own_sizes(photographs) -> None:
    """Maps are brought to the photograph's size; objects that are set aside alone are
    not judged by, but a hit on them counts beside another one of the class."""
    for i, one in enumerate(photographs):
        picture = pictures.picture("voc07 resnet50", i)
        assert min(picture.image.shape[2:]) == 25
        assert picture.target.tolist() == [4]  # of class 7 all is set aside
        assert torch.equal(picture.places["mask"][0], one.masks[:2].any(dim=0))
        assert torch.equal(picture.places["box"], picture.places["mask"])
        maps, queries = saliencies.explain(SMALL["AISE"], picture, seed=0)
        assert queries == 24
        row = study.measure(unit(SMALL["AISE"], i, data="voc07 resnet50"))
        large = torch.nn.functional.interpolate(
            maps, one.image.shape[2:], mode="bilinear"
        )
        region = one.masks[:2].any(dim=0, keepdim=True)
        hits = pointing_game.hit_shares(row["maxima_mask"])[0]
        for hit, tolerance in zip(hits, study.TOLERANCES, strict=True):
            assert hit == float(pointing_hits(large, region, tolerance))
        mass = large[0, 0].clamp_min(0)
        share = float(mass[region[0]].sum() / mass.sum())
        assert row["energy_mask"][0] == pytest.approx(share, abs=1e-4)


def test_the_published_setting() -> None:
    """TorchRay's networks and areas, and the paper's numbers of photographs."""
    settings = unit(SMALL["AISE"], 4951, data="voc07 vgg16").settings
    assert settings["model"] == "torchray_vgg16_voc"
    assert settings["model"] in torchray.MODELS
    assert unit(SMALL["AISE"], 0, data="coco14 resnet50").settings["model"] == (
        "torchray_resnet50_coco"
    )
    with pytest.raises(ValueError, match="images must be below 4952"):
        unit(SMALL["AISE"], 4952, data="voc07 vgg16")
    vgg, coco = study.table("voc07 vgg16"), study.table("coco14 resnet50")
    assert vgg["GradCAM"].arguments == {"layer": "network.features.29"}
    assert coco["GradCAM"].arguments == {}
    assert coco["Extremal"].arguments["areas"] == [0.018, 0.025, 0.05, 0.1]
    assert vgg["Extremal"] == study.table()["Extremal"]


def test_sensitivity_by_definition(monkeypatch) -> None:
    """Of a map that is the image itself: the largest ‖δ‖ / ‖x‖."""
    monkeypatch.setattr(saliencies, "attribute", lambda case, model, image, *_: image)
    (one,) = study.units({"": SMALL["AISE"]}, "scenes", [TWO], measures="sensitivity")
    found = study.measure(one)
    picture = pictures.picture("scenes", TWO)
    assert found["target"] == int(picture.target[picture.probability.argmax()])
    # δ is uniform in [-0.02, 0.02]: its norm is nearly the same for each draw.
    expected = 0.02 / 3**0.5 * 112 / float(picture.image.norm())
    assert found["sensitivity"] == pytest.approx(expected, rel=0.03)


def test_sensitivity_of_real_maps(tmp_path) -> None:
    results = Results("s", tmp_path)
    cases = {label: SMALL[label] for label in ("AISE", "Gradient")}
    study.run(study.units(cases, "scenes", [TWO], measures="sensitivity"), results)
    found = study.read_sensitivity(cases, "scenes", results)
    assert all(values.shape == (1,) and values > 0 for values in found.values())
    with pytest.raises(NotMeasured):
        study.read(cases, "scenes", results)  # another measurement
    flat = study.units({"": SMALL["random point"]}, "scenes", [TWO], "sensitivity")
    with pytest.raises(ValueError, match="flat does not look at the image"):
        study.measure(flat[0])


def test_rows_are_stored_once_and_read_in_one_order(tmp_path) -> None:
    results = Results("a", tmp_path)
    assert study.run(study.units(SMALL, "scenes", [TWO, 0, 1]), results) == 12
    assert (
        study.run(study.units(SMALL, "scenes", range(3)), Results("a", tmp_path)) == 0
    )
    study.run(
        study.units({"AISE": SMALL["AISE"]}, "scenes", [3]), results
    )  # not common to all
    found = study.read(SMALL, "scenes", Results("a", tmp_path))
    assert list(found) == list(SMALL)
    pairs = [
        (i, t)
        for i in range(3)
        for t in study.measure(unit(SMALL["random point"], i))["target"]
    ]
    for rows in found.values():
        assert (
            list(zip(rows["image"].tolist(), rows["target"].tolist(), strict=True))
            == pairs
        )
        assert rows["hits_mask"].shape == (len(pairs), len(study.TOLERANCES))
    assert set(found["Gradient"]["queries"].tolist()) == {-1}
    assert set(found["RISE"]["queries"].tolist()) == {40}
    with pytest.raises(NotMeasured, match="has no row of AISE"):
        study.read({"AISE": SMALL["AISE"]}, "small", results)


def test_convergence_is_read_by_budget(tmp_path) -> None:
    every = study.convergence()
    cases = {
        key: study.Case(
            every[key].method, {**every[key].arguments, "queries": [30, 96]}
        )
        for key in (("DIRECT", "default"), ("RISE", "default"))
    }
    results = Results("c", tmp_path)
    study.run(study.units(cases, "scenes", [TWO]), results)
    found = study.read_convergence("scenes", results, cases)
    assert list(found) == [(s, w, n) for s, w in cases for n in (30, 96)]
    row = study.measure(unit(cases["DIRECT", "default"], TWO))
    rows = found["DIRECT", "default", 96]
    assert rows["energy_mask"].tolist() == row["energy_mask"][1]
    assert rows["target"].tolist() == row["target"]
    assert rows["queries"].tolist() == [192, 192]


def made_up() -> dict[str, Tensor]:
    """Five pairs of three images and two classes."""
    hits = torch.zeros(5, len(study.TOLERANCES), dtype=torch.float64)
    hits[[0, 1, 3]] = 1
    hits[2, -1] = 1
    return {
        "image": torch.tensor([4, 4, 6, 9, 9]),
        "target": torch.tensor([0, 1, 0, 0, 1]),
        "difficult": torch.tensor([True, True, False, True, True]),
        "hits_box": hits,
        "energy_box": torch.tensor([0.5, 0.7, 0.1, 0.2, 0.4]),
    }


def test_game_and_scores() -> None:
    rows = made_up()
    assert study.game(rows).accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert study.game(rows, 15.0).accuracy == pytest.approx((1 + 1 / 2) / 2)
    assert study.game(rows, difficult=True).accuracy == pytest.approx((1 + 1 / 2) / 2)
    score = study.scores({"a": rows})["a"]
    assert score.accuracy == pytest.approx(7 / 12)
    assert score.low <= score.accuracy <= score.high
    assert score.energy == pytest.approx((0.6 + 0.1 + 0.3) / 3)
    assert (score.pairs, score.images) == (5, 3)
    assert study.per_image(rows, "energy_box").tolist() == pytest.approx(
        [0.6, 0.1, 0.3]
    )


def test_scaled_tolerance() -> None:
    """As much of a scene as 15 pixels are of VOC's longer side, 500 pixels."""
    share = study.SCALED / scenes.SIZE
    assert share == pytest.approx(15 / 500, abs=1e-4)
    assert study.SCALED in study.TOLERANCES


def test_wrong_arguments() -> None:
    rows = made_up()
    with pytest.raises(ValueError, match="tolerance must be one of"):
        study.game(rows, 7.0)
    with pytest.raises(ValueError, match="place must be one of box"):
        study.game(rows, place="mask")
    rows["difficult"] = torch.zeros(5, dtype=torch.bool)
    with pytest.raises(ValueError, match="no difficult pair"):
        study.game(rows, difficult=True)
    with pytest.raises(ValueError, match="data must be one of scenes"):
        study.units(SMALL, "voc", [0])
    with pytest.raises(ValueError, match="images must be below 330, got 330"):
        study.units(SMALL, "scenes", [330])
    with pytest.raises(ValueError, match="measures must be one of pointing"):
        study.units(SMALL, "scenes", [0], "deletion")
    with pytest.raises(ValueError, match="method must be one of Gradient"):
        study.measure(unit(study.Case("LIME", {}), 0))
    with pytest.raises(ValueError, match="form must be one of covariance"):
        study.measure(unit(study.Case("AISE", {**FEW, "form": "product"}), 0))


def test_the_stored_rows_are_those_of_this_code() -> None:
    results = Results("aise_scenes")
    for label in ("AISE-DIRECT-300", "AISE-LIPO-300", "Gradient"):
        one = unit(study.table()[label], 1)
        (stored,) = (
            row
            for row in results.rows(**one.settings)
            if row["image"] == 1 and row["settings"] == one.settings
        )
        now = {k: v for k, v in study.measure(one).items() if v is not None}
        assert stored["result"].keys() == now.keys()
        for name in ("target", "probability", "energy_box", "distance_mask"):
            assert now[name] == pytest.approx(stored["result"][name], abs=1e-3)
