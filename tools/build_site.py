"""Put the site's sources together and build it with Sphinx, without a network.

    python tools/build_site.py            writes _build/site/index.html

The notebooks are those in notebooks/, as they are committed; nothing is executed. What
the build adds to them (anchors, links, captions) is in `site_chapters`, so that the
notebooks stay plain Markdown for Jupyter and Colab. A warning of Sphinx is an error.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from site_chapters import Book, chapter_for_site, read_figures, read_references
from site_live import add_live_figures
from site_pages import benchmark_page, cards, execution_page, figure_page
from site_photo import add_photo_page
from sync_notebooks import ROOT, notebooks, origin


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
    (source / "chapters").mkdir()
    for name in book.notebooks:
        page = chapter_for_site(name, book, origin(root))
        nbformat.write(page, source / "chapters" / f"{name}.ipynb")
    pages = {
        "figures": figure_page(book),
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
    copy_mathjax(source / "_static" / "mathjax")
    add_live_figures(source, root)
    add_photo_page(source, root / "_build" / "photo")


def copy_mathjax(folder: Path) -> None:
    """MathJax 3 (Apache 2.0) in one file, from the package that carries it."""
    found = importlib.util.find_spec("mathjax")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "MathJax is missing: pip install -e '.[docs]' brings it"
        )
    static = Path(found.submodule_search_locations[0]) / "static" / "mathjax"
    folder.mkdir(parents=True)
    shutil.copy(static / "es5" / "tex-svg-full.js", folder)
    shutil.copy(static / "LICENSE", folder)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Command line; returns the exit status of Sphinx."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args(arguments)
    source, out = root / "_build" / "site-source", root / "_build" / "site"
    assemble(root, source)
    sphinx = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    cache = root / "_build" / "site-cache"
    done = subprocess.run([*sphinx, "-d", str(cache), str(source), str(out)])
    if done.returncode == 0:
        print(f"open {out.relative_to(root)}/index.html")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
