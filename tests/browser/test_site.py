"""Every page of the site in Chromium: desktop and phone, light and dark."""

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
        if seen["width"] > width:
            problems.append(f"{name}: {seen['width']} pixels wide")
        if seen["wrong_formulas"] or seen["raw_formulas"]:
            problems.append(f"{name}: formulas are not typeset")
        if seen["theme"] != scheme:
            problems.append(f"{name}: shown in {seen['theme']}")
    context.close()
    assert not problems, "\n".join(problems)
