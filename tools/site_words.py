"""Links from words: a chapter's first use of a term to the glossary, and of a method to
the library; from the library's pages back to the cells that use it."""

from __future__ import annotations

import re

from nbformat import NotebookNode

from site_chapters import Book, cell_anchor, outside, short
from sync_notebooks import GENERATED, tags

# How the text names a method, and what it is in the library.
METHODS = {
    "AISE": "xai_lib.aise.AISE",
    "GEEX": "xai_lib.geex.GEEX",
    "GERS": "xai_lib.geex.GERS",
    "iGEEX": "xai_lib.geex.IGEEX",
    "PertMap": "xai_lib.pertmap.StochasticPertMap",
    "RISE": "xai_lib.baselines.RISE",
    "D-RISE": "xai_lib.baselines.DRISE",
    "LIME": "xai_lib.baselines.LIME",
    "KernelSHAP": "xai_lib.baselines.KernelSHAP",
    "LRP": "xai_lib.baselines.LRP",
    "DeepLIFT": "xai_lib.baselines.DeepLift",
    "Grad-CAM": "xai_lib.baselines.GradCAM",
    "SmoothGrad": "xai_lib.baselines.SmoothGrad",
    "Guided Backprop": "xai_lib.baselines.GuidedBackprop",
    "Integrated Gradients": "xai_lib.baselines.IntegratedGradients",
    "Occlusion": "xai_lib.baselines.Occlusion",
    "pointing game": "xai_lib.metrics.PointingGame",
}
_ENTRY = re.compile(r"^(?=\S)(.+)$", re.MULTILINE)
_WORDS = re.compile(r"^(?:#|\||<|\(|\s*$)")


def terms(glossary: str) -> dict[str, str]:
    """A pattern for each entry of docs/glossary.md, the longest first, to the entry."""
    listed = glossary.partition("```{glossary}\n")[2].partition("```")[0]
    found = sorted(_ENTRY.findall(listed), key=len, reverse=True)
    return {_pattern(entry): f"{{term}}`@ <{entry}>`" for entry in found}


def methods() -> dict[str, str]:
    """A pattern for each method to its entry in the library's pages."""
    found = sorted(METHODS, key=len, reverse=True)
    return {_pattern(name): f"[@](#{METHODS[name]})" for name in found}


def _pattern(word: str) -> str:
    """Where a word stands, alone; one in small letters also begins a sentence."""
    plain = re.escape(word).replace(r"\ ", r"[ \n]")
    if word.islower():
        plain = f"[{word[0]}{word[0].upper()}]{plain[1:]}s?"
    return rf"(?<![\w-]){plain}(?![\w-])"


def first_uses(source: str, known: dict[str, str], left: set[str]) -> str:
    """Markdown with a link where a word stands for the first time.

    Args:
        source: of a cell.
        known: patterns, and what is put in their place; "@" is the word.
        left: the patterns that no cell has had yet; what is found is taken out.
    """
    if "## References\n" in source:
        return source

    def line_words(line: str) -> str:
        return line if _WORDS.match(line) else outside(line, words)

    def words(text: str) -> str:
        for pattern in [p for p in known if p in left]:
            at = re.search(pattern, text)
            if at:
                left.discard(pattern)
                word = known[pattern].replace("@", at[0])
                # Only before and after it may others be found.
                before, after = words(text[: at.start()]), words(text[at.end() :])
                return before + word + after
        return text

    parts = re.split(r"(```.*?```|\$\$.*?\$\$)", source, flags=re.DOTALL)
    for n in range(0, len(parts), 2):
        parts[n] = "\n".join(map(line_words, parts[n].split("\n")))
    return "".join(parts)


def link_words(page: NotebookNode, glossary: str) -> None:
    """Link, in place, the first uses in a chapter that is made for the site."""
    for known in (terms(glossary), methods()):
        left = set(known)
        for cell in page.cells:
            if cell.cell_type == "markdown":
                cell.source = first_uses(cell.source, known, left)


def glossary_page(glossary: str, book: Book) -> str:
    """The glossary, in which each entry leads to its chapter."""

    def address(match: re.Match[str]) -> str:
        name = book.chapter(match[0])
        return f"[{match[0]}](chapters/{name}.ipynb)" if name else match[0]

    return re.sub(
        r"\bChapters? \d\d(?: and \d\d)?\.",
        lambda said: re.sub(r"\d\d", address, said[0]),
        glossary,
    )


def uses(book: Book) -> dict[str, list[str]]:
    """For each name, as "RISE" or "photos.load", the places of the cells that use it
    first: one for each notebook that does, as "04 chapters/04_x.html#cell-04-031"."""
    found: dict[str, list[str]] = {}
    for name, notebook in book.notebooks.items():
        met: set[str] = set()
        for cell in notebook.cells:
            if cell.cell_type != "code" or GENERATED in tags(cell):
                continue
            for used in re.findall(r"(?:\b\w+\.)?\b[A-Za-z_]\w*(?=\()", cell.source):
                for word in {used, used.rpartition(".")[2]} - met:
                    met.add(word)
                    place = f"chapters/{name}.html#{cell_anchor(cell)}"
                    found.setdefault(word, []).append(f"{short(name)} {place}")
    return found
