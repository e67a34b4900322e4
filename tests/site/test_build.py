"""The whole site, built once: Sphinx's warnings are errors."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

import build_site
from sync_notebooks import ROOT, notebooks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("myst_nb", reason="the extra `docs` is not installed")
    root = tmp_path_factory.mktemp("book")
    for name in ("docs", "notebooks", "benchmarks"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, root)
    assert build_site.main([], root=root) == 0
    return root / "_build" / "site"


def pages(site: Path) -> dict[Path, str]:
    found = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    return {p: text for p, text in found.items() if "_static" not in p.parts}


def test_every_chapter_has_its_page(site: Path) -> None:
    names = {path.stem for path in notebooks(ROOT / "notebooks")}
    assert {path.stem for path in (site / "chapters").glob("*.html")} == names
    contents = (site / "index.html").read_text(encoding="utf-8")
    order = re.findall(
        r'class="toctree-l1"><a[^>]*href="chapters/(\w+)\.html', contents
    )
    assert set(order) == names
    learn = [name for name in dict.fromkeys(order) if name[0].isdigit()]
    assert learn == sorted(learn)


def test_the_first_page_has_a_card_for_each_notebook(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    linked = re.findall(r'class="book-card" href="chapters/(\w+)\.html"', text)
    assert linked == [path.stem for path in notebooks(ROOT / "notebooks")]
    assert 'data-live="spot"' in text


def test_a_page_is_light(site: Path) -> None:
    """Without its pictures, all that a chapter loads; formulas need no script."""
    for path in (site / "chapters").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"?#]+)', text)
        files = {(path.parent / unquote(a)).resolve() for a in loaded}
        own = [f for f in files if f.suffix in (".js", ".css")]
        sent = sum(len(gzip.compress(f.read_bytes())) for f in [path, *own])
        assert sent < 400_000, f"{path.name}: {sent:,} bytes, compressed"
        assert "fontawesome" in text
        assert "<math" in text or "$" not in text


def test_icons_are_drawn_without_their_program(site: Path) -> None:
    css = (site / "_static" / "book.css").read_text(encoding="utf-8")
    used = set()
    for text in pages(site).values():
        used |= set(re.findall(r"fa-solid fa-([a-z-]+)", text))
    assert {"magnifying-glass", "bars"} <= used
    assert used <= set(re.findall(r"\.fa-([a-z-]+)::before", css))
    assert not (site / "_static" / "scripts" / "fontawesome.js").read_text("utf-8")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\bsrc="([^"]*)"'
        r'|<link[^>]*rel="(?:stylesheet|preload|icon)"[^>]*href="([^"]*)"'
    )
    for path, text in pages(site).items():
        for match in loaded.finditer(text):
            address = match[1] or match[2]
            assert "//" not in address, f"{path.name} loads {address}"
            there = (path.parent / unquote(address.split("?")[0])).resolve()
            assert address.startswith("data:") or there.exists(), f"{path}: {address}"


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    texts = pages(site)
    anchors = {
        path.resolve(): set(re.findall(r'\b(?:id|name)="([^"]+)"', text))
        for path, text in texts.items()
    }
    checked = 0
    for path, text in texts.items():
        for address in re.findall(r'<a [^>]*href="([^"]+)"', text):
            if re.match(r"\w+:", address):
                continue
            file, _, anchor = unquote(address).partition("#")
            there = (path.parent / file).resolve() if file else path.resolve()
            assert there.exists(), f"{path.name} links to {address}"
            if anchor and there in anchors:
                assert anchor in anchors[there], f"{path.name} links to {address}"
                checked += 1
    assert checked > 500


def test_chapters_link_to_each_other_and_to_their_equations(site: Path) -> None:
    text = (site / "chapters" / "03_stochastic_pertmap.html").read_text("utf-8")
    assert 'id="equation-03-3-1"' in text
    assert 'href="#equation-03-3-1"' in text
    assert re.search(
        r'href="02_invariant_perturbations\.html"[^>]*><span[^>]*>Chapter', text
    )
    assert '<span class="caption-text">Figure 3.1. ' in text
