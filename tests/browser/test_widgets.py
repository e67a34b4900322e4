"""Every chapter's widget in JupyterLab: run the notebook, move each control, look."""

from __future__ import annotations

import time
from typing import Any

import nbformat
import pytest

from sync_notebooks import ROOT, chapters, tags

CHAPTERS = chapters(ROOT / "notebooks")
# Until this time a reader waits without a word.
PATIENCE = 0.5
# Twice the three minutes that a chapter may take on two free cores.
TIME_TO_RUN = 6 * 60
RUN_ALL = """
void jupyterapp.commands.execute("notebook:run-all-cells").then(
  (success) => { window.finished = success ? "yes" : "a cell failed"; },
  (error) => { window.finished = String(error); }
);
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
BUSY = 'document.querySelector(".xai-busy").textContent'


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_control_changes_the_picture(path: Any, chromium: Any, lab: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    widgets = [cell for cell in notebook.cells if "widget" in tags(cell)]
    assert len(widgets) == 1, f"{path.name} has {len(widgets)} widget cells"
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
    box = page.locator(".widget-vbox", has=page.locator(".widget-image")).first
    box.scroll_into_view_if_needed()
    controls = box.locator(".widget-dropdown select, .widget-slider [role=slider]")
    assert controls.count() >= 2
    answers = []
    for control in controls.all():
        name = (
            control.locator(
                "xpath=ancestor::*[contains(@class, 'widget-inline-hbox')][1]"
            )
            .locator(".widget-label")
            .inner_text()
        )
        before = page.evaluate(PICTURE)
        began = time.perf_counter()
        if control.evaluate("e => e.tagName") == "SELECT":
            chosen = control.evaluate("e => e.selectedIndex")
            control.select_option(index=chosen - 1 if chosen else 1)
        else:
            control.press(_key(control))
        said = ""
        while page.evaluate(PICTURE) == before:
            said = said or page.evaluate(BUSY)
            waited = time.perf_counter() - began
            assert waited < 60, f"{path.name}: {name!r} does not change the picture"
            time.sleep(0.02)
        waited = time.perf_counter() - began
        answers.append(f"{name} {waited:.2f} s")
        assert waited <= PATIENCE or said, f"{name!r}: {waited:.1f} s without a word"
    print(f"{path.stem}: {', '.join(answers)}")
    page.evaluate("jupyterapp.commands.execute('kernelmenu:shutdown')")
    page.close()


def _key(slider: Any) -> str:
    """Away from the nearer end."""
    low, now, high = (
        float(slider.get_attribute(f"aria-value{which}"))
        for which in ("min", "now", "max")
    )
    return "ArrowRight" if now - low <= high - now else "ArrowLeft"
