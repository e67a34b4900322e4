"""Put the site's sources together and build it with Sphinx, without a network.

    python tools/build_site.py            writes _build/site/index.html

The notebooks are those in notebooks/, as they are committed; nothing is executed. What
the build adds to them (anchors, links, captions) is in `site_chapters`, so that the
notebooks stay plain Markdown for Jupyter and Colab. A warning of Sphinx is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, unquote

import nbformat
from PIL import Image

from site_chapters import Book, chapter_for_site, read_figures, read_references
from site_finder import claims_page, gallery_page
from site_live import DATA, add_live_figures
from site_pages import benchmark_page, cards, execution_page, figure_page
from site_photo import add_photo_page
from site_words import glossary_page, link_words, uses
from sync_notebooks import ROOT, notebooks, origin

SHOWN = "<summary>"
ARROW = '><span class="toctree-toggle"'
_SEARCH = re.compile(r'(<button[^>]*search-button-field[^>]*?) aria-label="Search"')
HIDDEN = shutil.ignore_patterns(".*", "__pycache__")


def assemble(root: Path, source: Path) -> None:
    """Write Sphinx's sources into the new folder `source`."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(root / "docs", source)
    paths = notebooks(root / "notebooks")
    book = Book(
        {path.stem: nbformat.read(path, as_version=4) for path in paths},
        read_figures(root / "docs" / "figures.csv"),
        read_references(root / "docs" / "references.bib"),
    )
    glossary = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    (source / "chapters").mkdir()
    for name in book.notebooks:
        page = chapter_for_site(name, book, origin(root))
        link_words(page, glossary)
        nbformat.write(page, source / "chapters" / f"{name}.ipynb")
    found = json.dumps(uses(book), indent=1)
    (source / "uses.json").write_text(found, encoding="utf-8")
    rows = json.loads((root / DATA / "claims.json").read_text(encoding="utf-8"))["rows"]
    pages = {
        "claims": claims_page(rows, book),
        "figures": figure_page(book),
        "gallery": gallery_page(book, source / "_static" / "gallery"),
        "glossary": glossary_page(glossary, book),
        "execution": execution_page(root / "_build" / "execution.json", list(paths)),
        "benchmarks": benchmark_page(root / "benchmarks" / "results"),
    }
    for name, text in pages.items():
        (source / f"{name}.md").write_text(text, encoding="utf-8")
    index = source / "index.md"
    readme = (root / "README.md").read_text(encoding="utf-8")
    shown = cards(book, readme, source / "_static" / "cards")
    text = index.read_text(encoding="utf-8").replace("<!-- cards -->", shown)
    index.write_text(text, encoding="utf-8")
    add_live_figures(source, root)
    add_photo_page(source, root / "_build" / "photo")


def lighten(site: Path) -> None:
    """Replace Font Awesome's program, 1.5 MB a page, by the icons that are used."""
    program = site / "_static" / "scripts" / "fontawesome.js"
    pages = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.html"))
    drawn = program.read_text(encoding="utf-8")
    rules = [".fa-solid::before { content: ''; }"]
    for name in sorted(set(re.findall(r"fa-solid fa-([a-z-]+)", pages))):
        found = re.search(
            rf'\b"?{name}"?:\[(\d+),(\d+),\[[^\]]*\],"\w+","([^"]+)"', drawn
        )
        if found is None:
            raise ValueError(f"Font Awesome has no icon {name!r}")
        width, height, path = found.groups()
        svg = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>"
            f"<path d='{path}'/></svg>"
        )
        size = f"height: 1em; width: {int(width) / int(height):.3g}em"
        mask = f'url("data:image/svg+xml,{quote(svg)}") center / contain no-repeat'
        rules.append(
            f".fa-{name}::before {{ background: currentColor; "
            f"display: inline-block; {size}; mask: {mask}; }}"
        )
    css = site / "_static" / "book.css"
    css.write_text(css.read_text(encoding="utf-8") + "\n".join(rules), encoding="utf-8")
    program.write_text("", encoding="utf-8")
    for unused in site.rglob("*.map"):
        unused.unlink()


def finish(site: Path) -> None:
    """Let pictures load when they come near, and hold their place until then; and mend
    labels: a screen reader says what is written, and what an arrow is for."""
    sizes: dict[Path, tuple[int, int]] = {}

    def held(match: re.Match[str]) -> str:
        tag, address = match[0], match[1]
        there = (page.parent / unquote(address)).resolve()
        if "loading=" in tag or there.suffix not in (".png", ".webp", ".jpg"):
            return tag
        if there not in sizes:
            sizes[there] = Image.open(there).size
        width, height = sizes[there]
        own = "" if "width=" in tag else f' width="{width}" height="{height}"'
        return tag.replace("<img ", f'<img loading="lazy"{own} ', 1)

    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        changed = re.sub(r'<img [^>]*?src="([^"]+)"[^>]*>', held, text)
        changed = changed.replace('<summary aria-label="Toggle hidden content">', SHOWN)
        changed = changed.replace(
            f"<summary{ARROW}", f'<summary aria-label="pages within"{ARROW}'
        )
        changed = _SEARCH.sub(r"\1", changed)
        if changed != text:
            page.write_text(changed, encoding="utf-8")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status of Sphinx."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    source, out = root / "_build" / "site-source", root / "_build" / "site"
    assemble(root, source)
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    # Sphinx leaves alone what is there, and `lighten` has changed it.
    shutil.rmtree(out / "_static", ignore_errors=True)
    cache = root / "_build" / "site-cache"
    home = f"html_baseurl={origin(root).site}"
    done = subprocess.run([*sphinx, "-D", home, "-d", cache, source, out])
    if done.returncode == 0:
        lighten(out)
        finish(out)
        # To be downloaded, as they are.
        copied = out / "notebooks"
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(root / "notebooks", copied, ignore=HIDDEN)
        print(f"open {out.relative_to(root)}/index.html")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
