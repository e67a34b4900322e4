"""Every chapter's widget in JupyterLab: run the notebook, move each control, look."""

from __future__ import annotations

import time
from typing import Any

import nbformat
import pytest

from site_chapters import LIVE
from sync_notebooks import ROOT, chapters, tags


def widgets(path: Any) -> list[str]:
    """The ids of a notebook's cells with a widget."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell.id for cell in cells if "widget" in tags(cell)]


# The last chapter has none.
CHAPTERS = [path for path in chapters(ROOT / "notebooks") if widgets(path)]
# A reader waits that long without a word.
PATIENCE = 0.5
# A chapter takes at most three minutes on two free cores; these may be busy.
TIME_TO_RUN = 10 * 60
RUN_ALL = """
void jupyterapp.commands.execute("notebook:run-all-cells").then(
  (success) => { window.finished = success ? "yes" : "a cell failed"; },
  (error) => { window.finished = String(error); }
);
"""
# The line of `viz.explore` says "computing …" and then "0.3 s".
LISTEN = """
() => {
  window.spoken = [];
  const line = document.querySelector(".xai-busy");
  const note = () => window.spoken.push([performance.now(), line.textContent]);
  const all = { childList: true, characterData: true, subtree: true };
  new MutationObserver(note).observe(line, all);
}
"""
# The picture's bytes: its address changes even if they do not.
PICTURE = """
async () => {
  const image = document.querySelector(".widget-image");
  const bytes = await (await fetch(image.src)).arrayBuffer();
  const hash = await crypto.subtle.digest("SHA-1", bytes);
  return bytes.byteLength + ":" + new Uint8Array(hash).join(",");
}
"""


def test_each_widget_has_a_live_figure_on_the_site() -> None:
    assert [name for path in CHAPTERS for name in widgets(path)] == list(LIVE)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_control_changes_the_picture(path: Any, chromium: Any, lab: str) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(120_000)
    page.goto(lab.format(path.name))
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    # The status bar knows when the kernel answers; before that, nothing would run.
    page.get_by_text("| Idle").wait_for()
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.finished", timeout=1000 * TIME_TO_RUN, polling=500)
    assert page.evaluate("window.finished") == "yes"
    page.wait_for_selector(".widget-image")
    page.evaluate(LISTEN)
    box = page.locator(".widget-vbox", has=page.locator(".widget-image")).first
    box.scroll_into_view_if_needed()
    controls = box.locator(".widget-dropdown select, .widget-slider [role=slider]")
    plays = box.locator(".widget-play")
    assert controls.count() + plays.count() >= 2
    problems, answers, told, slowest = [], [], False, 0.0
    for play in plays.all():
        before = page.evaluate(PICTURE)
        play.get_by_role("button").first.click()
        page.wait_for_function(
            f"async (before) => await ({PICTURE})() !== before", arg=before
        )
        play.get_by_role("button").first.click()
        page.wait_for_timeout(1000)
    for control in controls.all():
        hbox = "xpath=ancestor::*[contains(@class, 'widget-inline-hbox')][1]"
        name = control.locator(hbox).locator(".widget-label").inner_text()
        before, place = page.evaluate(PICTURE), _place(control)
        # A small step may leave the picture as it is: a penalty that is large enough.
        for key in (_key(control), "Home", "End"):
            waited, first, said = _move(page, control, key)
            told = told or first.startswith("computing")
            slowest = max(slowest, waited)
            answers.append(f"{name} {waited:.1f} s")
            if not said.endswith(" s"):
                problems.append(f"{name}: {said}")
            if page.evaluate(PICTURE) != before:
                break
        else:
            problems.append(f"{name}: the picture stays as it is")
        # Back, or the next control might have nothing left to change.
        for _ in range(100):
            if _place(control) == place:
                break
            _move(page, control, "Right" if _place(control) < place else "Left")
        assert _place(control) == place
    page.evaluate("jupyterapp.commands.execute('kernelmenu:shutdown')")
    page.close()
    print(f"{path.stem}: {', '.join(answers)}")
    # On a busy machine the browser may show a word and the next one at once.
    assert told or slowest <= PATIENCE, f"slow answers, and never a word: {answers}"
    assert not problems, "\n".join(problems)


def _move(page: Any, control: Any, key: str) -> tuple[float, str, str]:
    """Seconds until the answer, and the line's first and last word."""
    page.evaluate("window.spoken = []")
    began = time.perf_counter()
    if control.evaluate("e => e.tagName") == "SELECT":
        chosen = int(_place(control))
        control.select_option(
            index=chosen - 1 if chosen and key != "Right" else chosen + 1
        )
    else:
        control.press(f"Arrow{key}" if key in ("Left", "Right") else key)
    page.wait_for_function(
        "window.spoken.length && !window.spoken.at(-1)[1].startsWith('computing')"
    )
    waited = time.perf_counter() - began
    first, said = (page.evaluate(f"window.spoken.at({n})[1]") for n in (0, -1))
    return waited, first, said


def _place(control: Any) -> float:
    """Where a slider stands, or which option of a list is chosen."""
    if control.evaluate("e => e.tagName") == "SELECT":
        return float(control.evaluate("e => e.selectedIndex"))
    return float(control.get_attribute("aria-valuenow"))


def _key(control: Any) -> str:
    """The key that moves a slider away from its nearer end."""
    if control.evaluate("e => e.tagName") == "SELECT":
        return ""
    low, high = (float(control.get_attribute(f"aria-value{w}")) for w in ("min", "max"))
    return "Right" if _place(control) - low <= high - _place(control) else "Left"
