"""The whole site, built once: Sphinx's warnings are errors."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from PIL import Image

import build_site
from site_live import DATA
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
    # Each has a picture that fills most of its 2 : 1, and all of them are light.
    shown = re.findall(r'<img src="(_static/cards/\w+\.webp)"', text)
    assert [Path(name).stem for name in shown] == linked
    sizes = [Image.open(site / name).size for name in shown]
    assert all(1.4 < wide / high < 2.6 and high > 230 for wide, high in sizes)
    assert sum((site / name).stat().st_size for name in shown) < 320_000


def test_the_first_page_counts_what_is_in_the_book(site: Path) -> None:
    """Pictures against the gallery; cells against the table of what was verified."""
    text = (site / "index.html").read_text(encoding="utf-8")
    facts = re.search(r'<p class="book-facts">(.*?)</p>', text)
    assert facts
    gallery = (site / "gallery.html").read_text(encoding="utf-8")
    verified = (site / "execution.html").read_text(encoding="utf-8")
    *_, last = re.findall(r"<tr.*?</tr>", verified, flags=re.DOTALL)
    executed, compared, pictures = re.findall(r"<p>(\d+)</p>", last)
    assert int(pictures) == len(re.findall('class="book-picture"', gallery))
    books = str(len(notebooks(ROOT / "notebooks")))
    assert re.findall(r"<b>(\d+)</b>", facts[1]) == [
        *(books, executed, compared, pictures)
    ]


def test_a_chapter_takes_as_long_as_the_first_page_says(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    minutes = [int(n) for n in re.findall(r"<small>(\d+) minutes</small>", text)]
    assert len(minutes) == 13
    assert "Thirteen chapters, each read in less than an hour" in text
    assert max(minutes) < 60


def test_the_claims_lead_to_what_decides_them(site: Path) -> None:
    """That a link's target exists is tested with all links."""
    text = (site / "claims.html").read_text(encoding="utf-8")
    stored = (ROOT / DATA / "claims.json").read_text(encoding="utf-8")
    rows = re.findall(r'<tr data-paper="\w+".*?</tr>', text)
    assert len(rows) == len(json.loads(stored)["rows"])
    lost = [row for row in rows if not re.search(r'<a href="chapters/.*?#', row)]
    assert not lost
    assert 'data-menus="paper verdict data-set chapter"' in text


def test_every_picture_has_a_caption_and_the_same_words_for_the_blind(
    site: Path,
) -> None:
    seen = 0
    for path in (site / "chapters").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        captions = re.findall('<span class="caption-text">(Figure .*?)</span>', text)
        images = re.findall(r'<img [^>]*alt="([^"]*)"[^>]*src="[^"]*_images/', text)
        assert [c.replace("’", "'") for c in captions] == images, path.name
        # But for the code, which says it, too.
        shown = re.sub(r"<pre>.*?</pre>|<[^>]*>", "", text, flags=re.DOTALL)
        for caption in captions:
            sentence = re.sub(r"^Figure (\w+ )?[\d.]+\. ", "", caption)
            assert shown.count(sentence) == 1, f"{path.name}: {sentence}"
        seen += len(images)
    gallery = (site / "gallery.html").read_text(encoding="utf-8")
    assert len(re.findall('class="book-picture"', gallery)) == seen


def test_every_picture_is_in_the_gallery(site: Path) -> None:
    text = (site / "gallery.html").read_text(encoding="utf-8")
    small = sorted((site / "_static" / "gallery").glob("*.webp"))
    assert len(re.findall('class="book-picture"', text)) == len(small) > 100
    assert sum(path.stat().st_size for path in small) / len(small) < 6_000
    assert all(f'src="_static/gallery/{path.name}"' in text for path in small)


def test_pictures_load_when_they_are_seen_and_hold_their_place(site: Path) -> None:
    for path, text in pages(site).items():
        for tag in re.findall(r'<img [^>]*src="[^"]*_images/[^>]*>', text):
            assert 'loading="lazy"' in tag, f"{path.name}: {tag}"
            assert "width=" in tag, f"{path.name}: {tag}"


def test_a_page_says_what_it_is_about(site: Path) -> None:
    said = set()
    for path in (site / "chapters").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        (about,) = re.findall(r'<meta name="description" content="([^"]+)"', text)
        assert 60 < len(about) <= 200
        said.add(about)
        assert re.search(r'property="og:image" content="[^"]+card\.jpg"', text)
        assert re.search(r'<link rel="icon" href="[^"]+icon\.png"', text)
    assert len(said) == len(list((site / "chapters").glob("*.html")))


def test_a_chapter_can_be_taken_away(site: Path) -> None:
    for path in notebooks(ROOT / "notebooks"):
        where = path.relative_to(ROOT / "notebooks")
        text = (site / "chapters" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert re.search(r'<p class="book-tools"><span>\d+ minutes</span>', text)
        assert f'href="../notebooks/{where.as_posix()}" download' in text
        assert (site / "notebooks" / where).read_bytes() == path.read_bytes()
        assert 'class="prev-next-area"' in text


def test_words_lead_to_the_glossary_and_the_library_back(site: Path) -> None:
    text = (site / "chapters" / "04_gradients_from_queries.html").read_text("utf-8")
    assert text.count('href="../glossary.html#term-black-box"') == 1
    assert 'href="../api.html#xai_lib.geex.GEEX"' in text
    library = (site / "api.html").read_text(encoding="utf-8")
    assert 'href="chapters/04_gradients_from_queries.html#cell-' in library
    glossary = (site / "glossary.html").read_text(encoding="utf-8")
    assert 'href="chapters/04_gradients_from_queries.html"' in glossary


def test_lines_of_a_formula_are_lines(site: Path) -> None:
    text = (site / "chapters" / "04_gradients_from_queries.html").read_text("utf-8")
    assert "<mtr>" in text
    for path, page in pages(site).items():
        assert "<mi>&</mi>" not in page, path.name


def test_formulas_are_spaced_as_in_tex(site: Path) -> None:
    text = (site / "chapters" / "04_gradients_from_queries.html").read_text("utf-8")
    # \\nabla \\log \\pi, and |z|
    assert '<mi>log</mi><mspace width="0.167em" /><mi>π</mi>' in text
    assert '<mo stretchy="false" lspace="0" rspace="0">|</mo><mi>z</mi>' in text
    counts = {"msub": 2, "msup": 2, "mfrac": 2, "munder": 2, "mover": 2, "msubsup": 3}
    for page in pages(site).values():
        for formula in re.findall("<math .*?</math>", page, flags=re.DOTALL):
            for element in ElementTree.fromstring(formula).iter():
                kind = element.tag.partition("}")[2]
                assert len(element) == counts.get(kind, len(element)), formula


def test_it_says_what_was_verified(site: Path) -> None:
    text = (site / "execution.html").read_text(encoding="utf-8")
    assert "not executed here" not in text
    assert len(re.findall(r"<tr", text)) == len(notebooks(ROOT / "notebooks")) + 2


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
