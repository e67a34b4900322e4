"""Every page of the site in Chromium: desktop and phone, light and dark; and the
pictures that a click enlarges, from the folder, with the network cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# A page may not scroll sideways; what is wide scrolls by itself.
LOOK = """
() => ({
  width: document.documentElement.scrollWidth,
  broken: [...document.images].filter(i => !(i.complete && i.naturalWidth))
    .map(i => i.src),
  squeezed: [...document.images].filter(i => i.width && i.naturalHeight
    && getComputedStyle(i).objectFit === "fill"
    && Math.abs(i.height * i.naturalWidth / (i.width * i.naturalHeight) - 1) > 0.02)
    .map(i => i.src),
  wrong_formulas: document.querySelectorAll("merror").length,
  raw_formulas: [...document.querySelectorAll(".math")]
    .filter(e => !e.querySelector("math")).length,
  theme: document.documentElement.dataset.theme,
})
"""


@pytest.fixture(scope="module")
def pages(built: Path) -> list[Path]:
    found = [p for p in built.rglob("*.html") if "_static" not in p.parts]
    assert len(found) > 15
    return sorted(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_opens(
    size: str, scheme: str, built: Path, pages: list[Path], chromium: Any
) -> None:
    width, height = SIZES[size]
    context = chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme
    )
    context.set_default_timeout(60_000)
    problems = []
    for path in pages:
        name = path.relative_to(built).as_posix()
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda m, said=said: said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e, said=said: said.append(f"error: {e}"))
        page.on("requestfailed", lambda r, said=said: said.append(f"lost: {r.url}"))
        page.goto(path.as_uri(), wait_until="load")
        # Lazy pictures load when they come near.
        page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = '')")
        page.wait_for_function("[...document.images].every(i => i.complete)")
        seen = page.evaluate(LOOK)
        page.close()
        bad = [line for line in said if line.startswith(("error", "warning", "lost"))]
        problems += [f"{name}: {line}" for line in bad]
        problems += [f"{name}: no picture {src}" for src in seen["broken"]]
        problems += [f"{name}: squeezed {src}" for src in seen["squeezed"]]
        if seen["width"] > width:
            problems.append(f"{name}: {seen['width']} pixels wide")
        if seen["wrong_formulas"] or seen["raw_formulas"]:
            problems.append(f"{name}: formulas are not typeset")
        if seen["theme"] != scheme:
            problems.append(f"{name}: shown in {seen['theme']}")
    context.close()
    assert not problems, "\n".join(problems)


def chosen(page: Any) -> Any:
    """What has the focus: the address of a link, or else the text of a button."""
    return page.evaluate(
        "document.activeElement.href || document.activeElement.textContent"
    )


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize(
    ("name", "picture"),
    [
        ("chapters/04_gradients_from_queries", "#picture-04-03"),
        ("chapters/pertmap", "#picture-pertmap-05"),  # the second of its cell
        ("gallery", ".book-picture >> nth=40"),
    ],
)
def test_a_click_enlarges_a_picture(
    name: str, picture: str, width: int, built: Path, chromium: Any
) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, offline=True
    )
    page = context.new_page()
    page.goto((built / f"{name}.html").as_uri())
    address = page.url
    figure, large = page.locator(picture), page.locator(".book-large")
    link, small = figure.locator("a.image-reference"), figure.locator("img")
    caption = figure.locator("figcaption").inner_text().removesuffix("#").strip()
    shown = small.evaluate("e => e.getBoundingClientRect().width")
    file = link.evaluate("e => e.href")

    def opened() -> None:
        large.wait_for(state="visible")
        page.wait_for_function("document.querySelector('.book-large img').naturalWidth")
        assert large.locator("img").evaluate("e => e.src") == file
        assert large.locator("figcaption").inner_text().strip() == caption
        assert large.get_by_text(caption).is_visible()
        wide = large.locator("img").evaluate("e => e.getBoundingClientRect().width")
        assert wide > 1.2 * shown
        box = large.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 800
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # The page below cannot be reached; the browser's own bar can.
        for _ in range(3):
            page.keyboard.press("Tab")
            assert chosen(page) != file
            assert page.evaluate(
                "document.activeElement === document.body "
                "|| document.activeElement.closest('dialog') !== null"
            )
        large.get_by_role("button").focus()

    def closed() -> None:
        large.wait_for(state="hidden")
        assert page.url == address
        assert chosen(page) == file

    small.click()
    opened()
    large.locator("img").click()
    closed()
    page.keyboard.press("Enter")
    opened()
    page.keyboard.press("Escape")
    closed()
    page.keyboard.press("Enter")
    large.wait_for(state="visible")
    assert chosen(page) == "Close"
    page.keyboard.press("Enter")
    closed()
    context.close()


def test_without_a_script_a_picture_leads_to_its_file(
    built: Path, chromium: Any
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built / "chapters" / "04_gradients_from_queries.html").as_uri())
    page.locator("#picture-04-03 img").click()
    page.wait_for_url("**/_images/*.png")
    context.close()
