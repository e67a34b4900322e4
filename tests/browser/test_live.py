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
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from site_live import add_live_figures, estimate, highest, normal, uniform, unpacked
from site_photo import Missing, add_photo_page, pack
from sync_notebooks import ROOT
from xai_lib import AISE, RISE
from xai_lib.aise.samplers import DirectSampler
from xai_lib.kernels.masks import most_shift
from xai_lib.zoo import models

WIDTHS = (360, 1280)
REFUSED = "example.org"
"""The address that one test asks for in vain."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    source = folder / "source"
    shutil.copytree(ROOT / "docs" / "_static", source / "_static")
    for name in ("conf.py", "references.bib", "live.md", "your_photo.md"):
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
    assert not [line for line in bad if REFUSED not in line]


def opened(page: Any, site: Path, name: str) -> None:
    page.goto((site / f"{name}.html").as_uri())


def text(page: Any, name: str) -> str:
    return page.inner_text(f"#live-{name} .live-status")


def data(name: str) -> dict[str, Any]:
    path = ROOT / "docs" / "_static" / "live" / "data" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_spot(page: Any, site: Path) -> None:
    opened(page, site, "live")
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
    opened(page, site, "live")
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
    opened(page, site, "live")
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
    named = [r for r in rows if "mirrored" in " ".join(r.values()).lower()]
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
    assert page.locator(".live-still img").count() == 3
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


@pytest.mark.usefixtures("packed")
def test_photograph(page: Any, site: Path) -> None:
    """Class and maps of the cat are Python's; at 360 pixels with few queries."""
    few = page.viewport_size["width"] == 360
    n_aise, n_rise = (10, 40) if few else (50, 300)
    opened(page, site, "your_photo")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
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
        page.wait_for_function("!photoState().running", timeout=300_000)
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
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    model = models.load("efficientnet_lite0")
    f = models.probabilities(model)
    x = torch.tensor(found["pixels"]).view(1, 3, 224, 224)
    target = int(f(x).argmax())
    assert found["target"] == target
    assert model.categories[target] in found["name"]
    assert found["queries"] == [6 * n_aise, n_rise]
    explainers = {
        "aise": AISE.preset(f, "300", n_samples=n_aise),
        "rise": SameMasks(f, n_samples=n_rise),
    }
    for name, explainer in explainers.items():
        heat = explainer.attribute(x, target).flatten().double().numpy()
        assert np.corrcoef(heat, found[name])[0, 1] > 0.99, name
    same = explainers["aise"].sample(x, target).centres[0].numpy()
    share = np.isclose(same, np.array(found["centres"])).all(axis=2).mean()
    assert share > 0.9


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
