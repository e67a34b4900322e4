"""The live figures and the visitor's photograph in Chromium, with the network cut.

The pages are built alone, in the site's theme, and opened from the folder.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from live_aise import summed
from live_geex import contributions, estimate, resized
from live_pertmap import best_box
from live_pieces import highest, normal, uniform, unpacked
from site_live import add_live_figures
from site_photo import Missing, add_photo_page, pack
from sync_notebooks import ROOT
from xai_lib import AISE, RISE
from xai_lib.aise.samplers import DirectSampler
from xai_lib.kernels.masks import most_shift
from xai_lib.zoo import models

WIDTHS = (360, 1280)
REFUSED = "example.org"
"""The address that one test asks for in vain."""
NO_GPU = "No available adapters"
"""What Chromium remarks where a page asks for WebGPU in vain."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    shutil.copytree(ROOT / "docs" / "_static", source / "_static")
    pages = [path.name for path in (ROOT / "docs").glob("live*.md")]
    for name in ("conf.py", "references.bib", "your_photo.md", *pages):
        shutil.copy(ROOT / "docs" / name, source)
    index = "# Pages\n\n```{toctree}\nlive\nyour_photo\nchapters/07\n```\n"
    (source / "index.md").write_text(index, encoding="utf-8")
    add_live_figures(source)
    chapter = "# A chapter\n\n```{raw} html\n:file: live/spot.html\n```\n"
    (source / "chapters" / "07.md").write_text(chapter, encoding="utf-8")
    add_photo_page(source, ROOT / "_build" / "photo")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html"]
    subprocess.run([*command, source, folder / "out"], check=True)
    return folder / "out"


@pytest.fixture(params=WIDTHS)
def page(request: pytest.FixtureRequest, chromium: Any) -> Iterator[Any]:
    """A page of this width, offline, that has nothing to complain about."""
    context = chromium.new_context(
        viewport={"width": request.param, "height": 800},
        offline=True,
        has_touch=request.param == 360,
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda m: said.append(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda e: said.append(f"error: {e}"))
    yield page
    width = page.evaluate("document.documentElement.scrollWidth")
    context.close()
    assert width <= request.param
    bad = [line for line in said if line.startswith(("error", "warning"))]
    expected = (REFUSED, NO_GPU)
    assert not [line for line in bad if not any(word in line for word in expected)]


def opened(page: Any, site: Path, name: str) -> None:
    page.goto((site / f"{name}.html").as_uri())


def text(page: Any, name: str) -> str:
    return page.inner_text(f"#live-{name} .live-status")


def data(name: str) -> dict[str, Any]:
    path = ROOT / "docs" / "_static" / "live" / "data" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def press(page: Any, locator: Any, *keys: str) -> None:
    locator.focus()
    for key in keys:
        page.keyboard.press(key)


def click_at(page: Any, slider: Any, share: float) -> None:
    """The mouse on a slider, at this share of its length."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def plays(page: Any, name: str) -> None:
    """The button of a figure moves the slider beside it."""
    line = page.locator(f"#live-{name} .live-steps:has(button)")
    button, slider = line.get_by_role("button"), line.get_by_role("slider")
    before = slider.input_value()
    assert button.inner_text() == "Play"
    button.click()
    page.wait_for_function(
        "([name, before]) => document.querySelector("
        "`#live-${name} .live-steps:has(button) input`).value !== before",
        arg=[name, before],
    )
    if button.inner_text() == "Stop":
        button.click()
    assert button.inner_text() == "Play"


def test_box(page: Any, site: Path) -> None:
    opened(page, site, "live_pertmap")
    known = data("box")
    for x in ([1.6, -0.6], [-0.4, 0.1], [0.3, 2.0], [1.05, 0.35]):
        found = page.evaluate("x => Live.figures.box.bestBox(x)", x)
        assert np.abs(found - best_box(known, np.array(x))).max() < 1e-5
    figure = page.locator("#live-box")
    assert "class 1 stays" in text(page, "box")
    size = figure.get_by_role("slider", name="the box")
    press(page, size, "End")
    assert "120 % of it, it breaks: class 0" in text(page, "box")
    click_at(page, size, 0.01)
    assert "At 10 % of it, class 1 stays" in text(page, "box")
    plays(page, "box")
    # The point moves by keyboard, and by dragging.
    press(page, figure.get_by_role("slider", name="to the right"), "Home")
    assert page.evaluate("Live.figures.box.at[0]") == -2.5
    canvas = figure.locator("canvas")
    canvas.scroll_into_view_if_needed()
    area = canvas.bounding_box()
    page.mouse.move(area["x"] + 0.2 * area["width"], area["y"] + 0.2 * area["height"])
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.mouse.up()
    assert np.abs(page.evaluate("Live.figures.box.at")).max() <= 0.05
    if page.viewport_size["width"] == 360:
        page.touchscreen.tap(area["x"] + 0.75 * area["width"], area["y"] + 9)
        assert page.evaluate("Live.figures.box.at") == pytest.approx(
            [1.5, 2.5], abs=0.1
        )


def test_deletion(page: Any, site: Path) -> None:
    opened(page, site, "live")
    known = data("deletion")
    figure = page.locator("#live-deletion")
    share = figure.get_by_role("slider")
    row = known["digits"][1]
    figure.get_by_role("radio", name=f"a “{row['label']}”").check()
    for one in row["maps"]:
        figure.get_by_role("radio", name=one["name"], exact=True).check()
        press(page, share, "Home", *["ArrowRight"] * 5)
        gone = highest(unpacked(one["values"], np.uint16), known["shares"][5])
        image = unpacked(row["image"], np.uint8)
        left = page.evaluate("Live.figures.deletion.left()")
        assert left == np.where(gone, 0, image).tolist()
        chance = f"{one['chances'][5]:.0%}".replace("%", " %")
        if one["chances"][5] >= 0.01:
            assert f"{row['label']} is {chance}" in text(page, "deletion")
    click_at(page, share, 0.99)
    assert share.get_attribute("aria-valuetext") == "100 %"
    plays(page, "deletion")


def test_penalty(page: Any, site: Path) -> None:
    opened(page, site, "live_pertmap")
    figure = page.locator("#live-penalty")
    known = data("penalty")
    one = known["digits"][1]
    figure.get_by_role("radio", name=f"a “{one['label']}”").check()
    press(page, figure.get_by_role("slider", name="penalty"), "Home")
    w = unpacked(one["boxes"][0]["w"], np.uint8)
    broken = f"{one['boxes'][0]['points']:.0%}".replace("%", " %")
    assert f"Sides of {w.mean() / 255:.2f} on average. {broken} of" in text(
        page, "penalty"
    )
    click_at(page, figure.get_by_role("slider", name="turn grey"), 0.99)
    now = one["boxes"][0]["classes"][-1]
    assert f"grey: a “{now}”" in figure.locator(".live-panels").inner_text()
    assert "loses it" in text(page, "penalty")
    freed = page.evaluate(
        """() => {
          const { digits, highest } = Live.figures.penalty;
          return [...highest(digits[1].boxes[0].w, 0.3)];
        }"""
    )
    assert freed == highest(w, 0.3).astype(int).tolist()
    plays(page, "penalty")


def test_cells(page: Any, site: Path) -> None:
    opened(page, site, "live_geex")
    known = data("cells")
    truth = unpacked(known["reference"], np.float32)
    for place, size in enumerate(known["sizes"]):
        maps = page.evaluate(
            "k => Live.figures.cells.maps(k).map((map) => [...map])", place
        )
        for map_, queries in zip(maps, known["stops"], strict=True):
            expected = resized(known, place, queries)
            bound = 1e-5 * max(1, np.abs(expected).max())
            assert np.abs(map_ - expected).max() < bound, (size, queries)
    figure = page.locator("#live-cells")
    queries = figure.get_by_role("slider", name="queries")
    press(page, queries, "Home")
    press(page, figure.get_by_role("slider", name="grid"), "Home")
    coarse = resized(known, 0, known["stops"][0])
    cosine = coarse @ truth / np.linalg.norm(coarse) / np.linalg.norm(truth)
    assert f"SmoothGrad {cosine:.2f}. With 20 queries" in text(page, "cells")
    click_at(page, queries, 0.99)
    assert "With 1,000 queries" in text(page, "cells")
    plays(page, "cells")


def test_path(page: Any, site: Path) -> None:
    opened(page, site, "live_geex")
    known = data("path")
    figure = page.locator("#live-path")
    for digit, row in enumerate(known["digits"]):
        figure.get_by_role("radio", name=f"a “{row['label']}”").check()
        for kind, label in (("exact", "exact"), ("asked", "estimated")):
            figure.get_by_role("radio", name=label).check()
            found = page.evaluate("Live.figures.path.sums().map((map) => [...map])")
            expected = contributions(row, kind).cumsum(axis=0)
            assert np.abs(np.array(found) - expected).max() < 1e-5, (digit, kind)
    point = figure.get_by_role("slider")
    press(page, point, "End")
    total = contributions(known["digits"][-1], "asked").sum()
    assert f"the map so far sums to {total:.2f}" in text(page, "path")
    before = text(page, "path")
    click_at(page, point, 0.3)
    assert text(page, "path") != before
    plays(page, "path")


def test_kernels(page: Any, site: Path) -> None:
    opened(page, site, "live_aise")
    known = data("kernels")
    figure = page.locator("#live-kernels")

    def agrees(scene: int, search: str, widths: list[int]) -> None:
        rows = known["scenes"][scene]["searches"][search]
        expected = summed([rows[k] for k in widths], 56).ravel()
        found = np.array(page.evaluate("Live.figures.kernels.map()"))
        assert np.abs(found - expected).max() < 1e-5 * max(1, np.abs(expected).max())

    agrees(0, "direct both", [1, 2, 3])
    figure.get_by_role("radio", name="delete").check()
    figure.get_by_role("radio", name="σ = 0.05").check()
    agrees(0, "direct delete", [0])
    assert text(page, "kernels").startswith("25 queries")
    press(page, figure.get_by_role("radio", name="DIRECT"), "ArrowRight")
    label = known["scenes"][1]["label"]
    figure.get_by_role("radio", name=f"{label} (2)").check()
    agrees(1, "lattice delete", [0])
    places = figure.get_by_role("slider")
    press(page, places, "ArrowLeft")
    assert text(page, "kernels").startswith("24 queries")
    click_at(page, places, 0.02)
    assert text(page, "kernels").startswith("1 queries")
    plays(page, "kernels")


def test_area(page: Any, site: Path) -> None:
    opened(page, site, "live_aise")
    known = data("area")
    figure = page.locator("#live-area")
    margin = figure.get_by_role("slider")
    for detection, row in enumerate(known["detections"]):
        figure.get_by_role("radio", name=row["label"]).check()
        press(page, margin, "End")
        assert margin.get_attribute("aria-valuetext") == "everywhere"
        found = np.array(page.evaluate("Live.figures.area.map()"))
        expected = summed(row["areas"][-1]["widths"], 56).ravel()
        bound = 1e-5 * max(1, np.abs(expected).max())
        assert np.abs(found - expected).max() < bound, detection
    click_at(page, margin, 0.02)
    assert margin.get_attribute("aria-valuetext") == "the box alone"
    figure.get_by_role("radio", name="side / 7").check()
    assert text(page, "area").startswith("33 queries")
    plays(page, "area")


def test_method(page: Any, site: Path) -> None:
    opened(page, site, "live_method")
    known = data("method")
    figure = page.locator("#live-method")
    images = figure.get_by_label("Which images do you have?")
    budget = figure.get_by_role("slider")
    for table in known["tables"]:
        images.select_option(label=table["data"])
        measure = figure.get_by_label("What shall a map be good at?")
        measure.select_option(label=known["meaning"][table["measure"]])
        for gradients, answer in enumerate(("no", "yes")):
            figure.get_by_role("radio", name=answer).check()
            press(page, budget, "End")
            decision = table["decisions"][(gradients + 1) * len(known["budgets"]) - 1]
            if decision[0] < 0:
                expected = "no method that you can pay for"
            else:
                expected = f"Take {table['methods'][decision[0]]}"
            assert expected in text(page, "method")
    figure.get_by_role("radio", name="no").check()
    click_at(page, budget, 0.01)
    assert text(page, "method").startswith("Nothing can be made")
    press(page, images, "Home")
    assert page.locator("#live-method tbody tr").count() == 3


def test_less_motion_steps(chromium: Any, site: Path) -> None:
    context = chromium.new_context(reduced_motion="reduce", offline=True)
    page = context.new_page()
    opened(page, site, "live_pertmap")
    figure = page.locator("#live-box")
    press(page, figure.get_by_role("slider", name="the box"), "Home")
    figure.get_by_role("button", name="Step").click()
    page.wait_for_timeout(1200)
    assert "At 20 % of it" in text(page, "box")
    context.close()


def test_spot(page: Any, site: Path) -> None:
    opened(page, site, "live_aise")
    known = data("spot")
    side, scores = known["side"], known["scores"]
    canvas = page.locator("#live-spot canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()

    def at(i: int, j: int) -> tuple[float, float]:
        x, y = ((k + 0.5) / side for k in (i, j))
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    # Drag: the question is asked where the spot is let go.
    page.mouse.move(*at(4, 4))
    page.mouse.down()
    page.mouse.move(*at(10, 12), steps=4)
    page.mouse.up()
    assert f"{scores[12 * side + 10]:.3f}" in text(page, "spot")
    reveal = page.get_by_role("button", name="Reveal")
    assert reveal.is_disabled()

    # By keyboard alone: two more.
    across = page.get_by_role("slider", name="from the left")
    across.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.get_by_role("slider", name="from the top").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert f"{scores[13 * side + 15]:.3f}" in text(page, "spot")
    across.focus()
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert not page.get_by_text("LIPO's roof over your scores").is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    # Revealed: the roof is the one of the formula, over all places.
    assert "DIRECT's first 3" in text(page, "spot")
    found = page.evaluate(
        """() => {
          const { asked, places, roof } = Live.figures.spot;
          const points = [...asked.keys()].map((k) => places[k]);
          const scores = [...asked.values()];
          return { points, scores, places, roof: roof(points, scores, places) };
        }"""
    )
    p, s, q = (np.array(found[k]) for k in ("points", "scores", "places"))
    far = np.linalg.norm(p[:, None] - p, axis=2)
    steepest = (np.abs(s[:, None] - s) / np.where(far, far, np.inf)).max()
    bound = (s + steepest * np.linalg.norm(q[:, None] - p, axis=2)).min(axis=1)
    assert np.abs(bound - found["roof"]).max() < 1e-5
    page.keyboard.press("ArrowDown")
    steps = page.get_by_role("slider", name="DIRECT's places")
    before = canvas.get_attribute("aria-label")
    steps.focus()
    page.keyboard.press("Home")
    assert canvas.get_attribute("aria-label") != before


def test_a_finger_asks_and_paper_shows_the_picture(page: Any, site: Path) -> None:
    opened(page, site, "live_aise")
    canvas = page.locator("#live-spot canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    if page.viewport_size["width"] == 360:
        page.touchscreen.tap(*middle)
    else:
        page.mouse.click(*middle)
    known = data("spot")
    score = known["scores"][(known["side"] ** 2) // 2]
    assert f"Score here {score:.3f}; your best of 1" in text(page, "spot")
    page.emulate_media(media="print")
    assert page.locator("#live-spot .live-still").is_visible()
    assert not canvas.is_visible()


def test_settle(page: Any, site: Path) -> None:
    opened(page, site, "live_geex")
    known = data("settle")
    stops = known["stops"]
    page.wait_for_function(
        "n => Live.figures.settle.found.plain.size === n", arg=len(stops)
    )
    for kind in ("mirrored", "plain"):
        for queries in (stops[0], 200, stops[-1]):
            map_ = page.evaluate(
                "([kind, n]) => [...Live.figures.settle.found[kind].get(n)]",
                [kind, queries],
            )
            expected = estimate(known, queries, kind == "mirrored")
            assert np.abs(np.array(map_) - expected).max() < 1e-5 * max(
                1, np.abs(expected).max()
            )
    truth = unpacked(known["gradient"], np.float32)
    at_most = estimate(known, stops[-1], mirrored=True)
    cosine = at_most @ truth / np.linalg.norm(at_most) / np.linalg.norm(truth)
    slider = page.locator("#live-settle").get_by_role("slider")
    slider.focus()
    page.keyboard.press("End")
    assert f"{cosine:.2f}" in text(page, "settle")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 12, box["y"] + box["height"] / 2)
    assert f"{cosine:.2f}" not in text(page, "settle")
    plain = page.get_by_label("plain: each direction once")
    before = text(page, "settle")
    plain.check()
    assert text(page, "settle") != before


def test_threshold(page: Any, site: Path) -> None:
    opened(page, site, "live")
    known = data("threshold")
    maps = [unpacked(row["values"], np.uint16) for row in known["maps"]]
    for share in (0.05, 0.3, 0.75):
        found = page.evaluate(
            """share => {
              const { maps, highest, overlap } = Live.figures.threshold;
              const masks = maps.map((map) => highest(map, share));
              return masks.map((a) => masks.map((b) => overlap(a, b)));
            }""",
            share,
        )
        masks = [highest(values, share) for values in maps]
        for a, row in zip(masks, found, strict=True):
            for b, overlap in zip(masks, row, strict=True):
                assert overlap == pytest.approx((a & b).sum() / (a | b).sum(), abs=1e-5)
    figure = page.locator("#live-threshold")
    slider = figure.get_by_role("slider")
    slider.focus()
    page.keyboard.press("Home")
    assert "With 5 % of the pixels" in text(page, "threshold")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
    assert "With 100 % of the pixels" in text(page, "threshold")
    label = figure.locator("canvas").first.get_attribute("aria-label")
    assert label == "Gradient, its best 100 %"
    page.keyboard.press("Home")
    figure.get_by_role("radio", name="RISE").check()
    assert "overlap: 100 %" in figure.locator(".live-panels > div").nth(3).inner_text()


def test_claims(page: Any, site: Path) -> None:
    opened(page, site, "live")
    rows = data("claims")["rows"]
    figure = page.locator("#live-claims")
    assert text(page, "claims") == f"{len(rows)} of {len(rows)} statements"
    figure.get_by_label("Verdict").select_option("does not hold")
    fails = [row for row in rows if row["verdict"] == "does not hold"]
    assert figure.locator("tbody tr:visible").count() == len(fails)
    figure.get_by_label("Verdict").focus()
    page.keyboard.press("Home")
    figure.get_by_label("Word").click()
    page.keyboard.type("mirrored")
    columns = ("paper", "section", "statement", "note", "verdict", "printed", "scale")
    named = [r for r in rows if any("mirrored" in r[c].lower() for c in columns)]
    assert 0 < len(named) < len(rows)
    assert text(page, "claims") == f"{len(named)} of {len(rows)} statements"


def test_a_chapter_takes_a_figure_in(page: Any, site: Path) -> None:
    opened(page, site, "chapters/07")
    assert page.locator("#live-spot canvas").is_visible()
    assert not page.locator("#live-spot .live-still").is_visible()
    still = "document.querySelector('.live-still img').decode().then(() => true)"
    assert page.evaluate(still)


def test_without_javascript_the_pictures_stand(chromium: Any, site: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    opened(page, site, "live")
    assert page.locator(".live-still img").count() == 2
    assert (
        page.locator(".live-still table tr").count() == len(data("claims")["rows"]) + 1
    )
    for picture in page.locator(".live-still").all():
        assert picture.is_visible()
    context.close()


# The visitor's photograph


@pytest.fixture(scope="module")
def packed() -> None:
    if not importlib.util.find_spec("onnx"):
        pytest.skip("the network is converted with onnx and onnxscript")
    try:
        pack(ROOT / "_build" / "photo", ROOT / "docs" / "_static" / "live")
    except Missing as missing:
        pytest.skip(str(missing))


class SameMasks(RISE):
    """RISE with the masks of the page, from its own form of Philox."""

    def _draws(
        self, height: int, width: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        s, places = self.mask_size, most_shift(self.mask_size, height) + 1
        for index in range(self.n_samples):
            drawn = uniform(self.seed, index, s**2 + 2)
            visible = torch.from_numpy(drawn[: s**2] < self.p).float()
            shifts = torch.tensor([[int(u * places) for u in drawn[s**2 :]]])
            yield visible.view(1, s, s), shifts


def test_direct_visits_the_same_places(chromium: Any, site: Path) -> None:
    def score(x: float, y: float) -> float:
        return -((x - 0.3) ** 2) - 2 * (y - 0.7) ** 2 + (x - 0.9) * (y - 0.2) * x

    page = chromium.new_page()
    for name in ("philox.js", "explain.js"):
        page.add_script_tag(path=ROOT / "docs" / "_static" / "live" / name)
    found = page.evaluate(
        """n => {
          const score = ([x, y]) =>
            -((x - 0.3) ** 2) - 2 * (y - 0.7) ** 2 + (x - 0.9) * (y - 0.2) * x;
          const sampler = new Explain.Direct(0.1);
          while (sampler.values.length < n) {
            sampler.tell(sampler.ask(n - sampler.values.length).map(score));
          }
          const mask = [...Explain.riseMask(5, 224)];
          const numbers = [...Philox.normal(3, 2, 7)];
          return { points: sampler.points, mask, numbers };
        }""",
        300,
    )
    page.close()
    sampler = DirectSampler(eps=0.1)
    while len(sampler.scores) < 300:
        points = sampler.ask(300 - len(sampler.scores))
        sampler.tell(points, [score(x, y) for x, y in points.tolist()])
    assert found["points"] == sampler.points.tolist()
    masks = list(SameMasks(lambda x: x, n_samples=6).masks(224, 224))
    assert np.abs(np.array(found["mask"]) - masks[5].flatten().numpy()).max() < 1e-5
    assert np.abs(found["numbers"] - normal(3, 2, 7)).max() < 1e-12


def explains_the_cat(page: Any, n_aise: int, n_rise: int) -> str:
    """On the open page of photographs, class and maps of the cat are Python's; returns
    what the page says it runs on."""
    page.evaluate(
        """([aise, rise]) => {
          const { dataset } = document.querySelector("#photo-form");
          dataset.aise = JSON.stringify({ n: aise });
          dataset.rise = JSON.stringify({ n: rise });
        }""",
        [n_aise, n_rise],
    )
    # The keyboard alone.
    page.locator("#photo-sample").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("photoState().pixels")
    for method in ("aise", "rise"):
        page.locator(f"#photo-run-{method}").focus()
        page.keyboard.press("Enter")
        page.wait_for_function("photoState().running")
        page.wait_for_function("!photoState().running", timeout=900_000)
        assert "finished" in page.inner_text("#photo-status")
    found = page.evaluate(
        """() => {
          const { pixels, maps } = photoState();
          const chosen = document.querySelector("#photo-classes input:checked");
          return {
            pixels: [...pixels],
            target: Number(chosen.value),
            name: chosen.parentElement.textContent,
            aise: [...maps.aise.map],
            rise: [...maps.rise.map],
            centres: maps.aise.centres,
            queries: [maps.aise.queries, maps.rise.queries],
          };
        }"""
    )
    model = models.load("efficientnet_lite0")
    f = models.probabilities(model)
    x = torch.tensor(found["pixels"]).view(1, 3, 224, 224)
    target = int(f(x).argmax())
    assert found["target"] == target
    assert model.categories[target] in found["name"]
    assert found["queries"] == [6 * n_aise, n_rise]
    explainers: dict[str, Any] = {
        "aise": AISE.preset(f, "300", n_kernels=n_aise),
        "rise": SameMasks(f, n_samples=n_rise),
    }
    for name, explainer in explainers.items():
        heat = explainer.attribute(x, target).flatten().double().numpy()
        assert np.corrcoef(heat, found[name])[0, 1] > 0.99, name
    same = explainers["aise"].sample(x, target).centres[0].numpy()
    share = np.isclose(same, np.array(found["centres"])).all(axis=2).mean()
    assert share > 0.9
    return str(page.inner_text("#photo-engine"))


PLAIN = "The network runs on WebAssembly, one thread"


@pytest.mark.usefixtures("packed")
def test_photograph(page: Any, site: Path) -> None:
    """At 360 pixels with few queries."""
    few = page.viewport_size["width"] == 360
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    opened(page, site, "your_photo")
    assert explains_the_cat(page, *((10, 40) if few else (50, 300))) == f"{PLAIN}."
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    assert any(url.endswith("packed/wasm.js") for url in asked)
    assert not any("-gpu" in url for url in asked)


@pytest.mark.usefixtures("packed")
def test_photograph_where_webgpu_does_not_start(page: Any, site: Path) -> None:
    """The page has an adapter, and the worker none."""
    page.add_init_script(
        """Object.defineProperty(navigator, "gpu", {
          value: { requestAdapter: async () => ({}) },
        })"""
    )
    opened(page, site, "your_photo")
    said = explains_the_cat(page, 5, 40)
    assert said.startswith(f"{PLAIN}, for WebGPU failed here: ")


@pytest.mark.usefixtures("packed")
def test_photograph_with_webgpu(chromium: Any, site: Path) -> None:
    """Computed by SwiftShader, a graphics processor in software: seconds an image."""
    flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
    browser = chromium.browser_type.launch(
        executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
        args=["--no-sandbox", *flags],
    )
    try:
        page = browser.new_context(offline=True).new_page()
        opened(page, site, "your_photo")
        if not page.evaluate("navigator.gpu?.requestAdapter().then(Boolean)"):
            pytest.skip("this Chromium has no WebGPU, even in software")
        assert explains_the_cat(page, 2, 8) == "The network runs on WebGPU."
    finally:
        browser.close()


class Isolated(SimpleHTTPRequestHandler):
    """Serves pages that may share memory between threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.usefixtures("packed")
def test_photograph_on_threads(chromium: Any, site: Path) -> None:
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Isolated, directory=str(site))
    )
    Thread(target=server.serve_forever, daemon=True).start()
    page = chromium.new_page()
    try:
        page.goto(f"http://127.0.0.1:{server.server_port}/your_photo.html")
        cores = page.evaluate("navigator.hardwareConcurrency")
        if cores == 1:
            pytest.skip("one core")
        said = explains_the_cat(page, 5, 40)
        assert said == f"The network runs on WebAssembly, {min(4, cores)} threads."
    finally:
        page.close()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("gpu", "engine"),
    [
        ("x", "WebGPU"),
        ("x + 2e-3", "WebAssembly, one thread, for WebGPU failed here: it gives other"),
        ("NaN", "WebAssembly, one thread, for WebGPU failed here: it gives other"),
        ("lost()", "WebAssembly, one thread, for WebGPU failed here: lost is not"),
    ],
)
def test_webgpu_is_taken_where_it_answers_alike(
    chromium: Any, gpu: str, engine: str
) -> None:
    """The worker alone, over two engines whose answers are written here."""
    page = chromium.new_page()
    page.add_script_tag(
        content=f"""
        const answers = {{ wasm: (x) => x, webgpu: (x) => {gpu} }};
        const run = (answer) => async ({{ images }}) => ({{
          probabilities: {{ data: images.data.slice(0, 8).map(answer) }},
        }});
        const ort = {{
          env: {{ wasm: {{}} }},
          Tensor: class {{ constructor(type, data) {{ this.data = data; }} }},
          InferenceSession: {{
            create: async (_, {{ executionProviders: [name] }}) => ({{
              name, run: run(answers[name]), release() {{}},
            }}),
          }},
        }};"""
    )
    for name in ("philox.js", "explain.js", "photo-worker.js"):
        page.add_script_tag(path=ROOT / "docs" / "_static" / "live" / name)
    found, session = page.evaluate(
        """async () => {
          const pixels = new Float32Array(3 * 224 * 224).fill(0.5);
          const files = { wasm: null, glue: "", model: new ArrayBuffer(0), pixels };
          const { engine } = await tasks.load({ ...files, gpu: true });
          return [engine, session.name];
        }"""
    )
    page.close()
    assert found.startswith(engine)
    assert session == ("webgpu" if engine == "WebGPU" else "wasm")


@pytest.mark.usefixtures("packed")
def test_a_dropped_file_and_stop(page: Any, site: Path, tmp_path: Path) -> None:
    opened(page, site, "your_photo")
    page.wait_for_selector("#photo-form")
    page.set_input_files(
        "#photo-file", ROOT / "docs" / "_static" / "brand" / "four.png"
    )
    page.wait_for_function("photoState().pixels")
    assert page.inner_text("#photo-name") == "four.png"
    page.evaluate(
        """async () => {
          const canvas = document.createElement("canvas");
          const blob = await new Promise((resolve) => canvas.toBlob(resolve));
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([blob], "dropped.png"));
          const drop = new DragEvent("drop", { dataTransfer, cancelable: true });
          document.querySelector("#photo-drop").dispatchEvent(drop);
        }"""
    )
    page.wait_for_function(
        "document.querySelector('#photo-name').textContent === 'dropped.png'"
    )
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    page.set_input_files("#photo-file", broken)
    page.wait_for_function(
        "document.querySelector('#photo-status').textContent.includes('no picture')"
    )
    page.click("#photo-run-rise")
    page.wait_for_function("photoState().maps.rise")
    page.click("#photo-stop")
    page.wait_for_function("!photoState().running")
    assert "stopped" in page.inner_text("#photo-status")
    # The browser itself refuses to fetch from elsewhere.
    rule = page.evaluate(
        """address => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) =>
            resolve(event.violatedDirective));
          fetch(address).catch(() => {});
        })""",
        f"https://{REFUSED}/",
    )
    assert rule == "connect-src"
