"""Sphinx settings. `tools/build_site.py` puts the sources together and runs Sphinx."""

import importlib.metadata
import json
import re
from html import escape
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert

project = "Explaining image models by perturbing their inputs"
author = "The authors of the book"
copyright = "The authors of the book: text CC BY 4.0, code MIT"
release = importlib.metadata.version("xai-lib")
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
]

# Chapters show the outputs that nbval verified.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# Formulas become MathML when the site is built: a page needs no script to show them.
html_math_renderer = "mathml"
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["formulas.css", "book.css"]
html_js_files = [("book.js", {"defer": "defer"})]
html_favicon = "_static/brand/icon.png"
# What would be downloaded is a copy without its first cells; the notebooks are better.
html_theme_options = {
    "use_download_button": False,
    "show_toc_level": 2,
    "logo": {
        "image_light": "_static/brand/logo.png",
        "image_dark": "_static/brand/logo.png",
        "text": project,
    },
}
html_copy_source = False
html_show_sourcelink = False
html_context = {"default_mode": "auto"}


def as_restructured_text(app, what, name, obj, options, lines):
    """The library's docstrings mark code as Markdown does, and write |x| for a norm."""
    text = "\n".join(lines).replace("|", "\\|")
    code = re.compile(r"(?<!`)`([^`]+)`(?!`)(?=(\w?))")

    def literal(match):
        inside = match[1].replace("\\|", "|")
        return f"``{inside}``" + ("\\ " if match[2] else "")

    lines[:] = code.sub(literal, text).split("\n")


MATHML = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", MATHML[1:-1])
_TAG = re.compile(r"\\tag\{([^}]*)\}")


def as_mathml(formula, display):
    """MathML of a formula in TeX; what it does not know is an error of the build."""
    # latex2mathml has no "arg", and would print the star of an operator.
    plain = _TAG.sub("", formula).replace(r"\arg\max", r"\operatorname{argmax}")
    plain = plain.replace(r"\operatorname*", r"\operatorname")
    # It knows the same lines by another name, and would print each "&".
    plain = plain.replace("{aligned}", "{align*}")
    found = convert(plain, display=display)
    if unknown := re.search(r"\\\w+|<mi>&</mi>", found):
        raise ValueError(f"{unknown[0]} cannot be shown, in {formula!r}")
    return spaced(found)


def spaced(formula):
    """MathML with the gaps that TeX leaves: none at a bar, a slash or a sign, a thin
    one beside the name of a function."""
    root = ElementTree.fromstring(formula)
    for sign in root.iter(f"{MATHML}mo"):
        if sign.text in ("|", "/") or is_name(sign):
            sign.attrib |= {"lspace": "0", "rspace": "0"}
    for row in list(root.iter()):
        if row.tag.removeprefix(MATHML) not in ("math", "mrow", "mtd", "msqrt"):
            continue
        children = list(row)
        for left, right in pairwise([None, *children]):
            is_mo = left is not None and left.tag == f"{MATHML}mo"
            closes = is_mo and left.text in (")", "]", "}", "|")
            if right.text in ("−", "+") and (left is None or (is_mo and not closes)):
                right.set("form", "prefix")
            if left is None or f"{MATHML}mspace" in (left.tag, right.tag):
                continue
            after = is_name(left) and (right.tag != f"{MATHML}mo" or is_name(right))
            before = is_name(right) and (not is_mo or closes)
            if after or before:
                gap = ElementTree.Element(f"{MATHML}mspace", {"width": "0.167em"})
                row.insert(list(row).index(right), gap)
    return ElementTree.tostring(root, encoding="unicode")


def is_name(element):
    """Whether it is "log", "max", or one of them with an index."""
    if len(element):
        kind = element.tag.removeprefix(MATHML)
        scripts = ("msub", "msup", "msubsup", "munder", "munderover")
        return kind in scripts and is_name(element[0])
    letters = element.tag in (f"{MATHML}mi", f"{MATHML}mo")
    return letters and len(element.text or "") > 1 and element.text.isalpha()


def inline_math(self, node):
    formula = as_mathml(node.astext(), "inline")
    # What may be wider than a phone scrolls there.
    if len(node.astext()) > 40:
        formula = f'<span class="longmath">{formula}</span>'
    # No new line begins between a formula and the comma after it.
    self.body.append(formula + "\u2060")
    raise nodes.SkipNode


def display_math(self, node):
    formula = node.astext()
    self.body.append(self.starttag(node, "div", CLASS="displaymath"))
    self.body.append(as_mathml(formula, "block"))
    if tag := _TAG.search(formula):
        self.body.append(f'<span class="eqno">({tag[1]})</span>')
    self.body.append("</div>")
    raise nodes.SkipNode


def live_figures(app, pagename, templatename, context, doctree):
    """The scripts of the figures that move, on the pages that have one."""
    body = context.get("body") or ""
    if names := re.findall(r'data-live="(\w+)"', body):
        app.add_css_file("live/live.css")
        for script in ("philox", "live", *(f"figures/{name}" for name in names)):
            app.add_js_file(f"live/{script}.js", loading_method="defer")
    if 'id="photo-form"' in body:
        app.add_css_file("live/photo.css")
        app.add_js_file("live/photo.js", loading_method="defer")
        # The browser refuses fetch, sockets and beacons from this page.
        context["metatags"] += (
            '<meta http-equiv="Content-Security-Policy" content="connect-src \'none\'">'
        )


def cell_anchors(app, doctree):
    """The id of a cell of code, by which other pages lead to it."""
    for node in doctree.findall(nodes.container):
        if anchor := node.get("cell_metadata", {}).get("anchor"):
            node["ids"].append(anchor)


ABOUT = (
    "A textbook of notebooks that run: explain image classifiers and detectors by "
    "changing their inputs. GEEX, PertMap and AISE, derived, implemented in PyTorch "
    "and reproduced."
)


def about(pagename, doctree):
    """What a page is about, in some 160 letters: its first plain paragraph."""
    if doctree is None or pagename == "index":
        return ABOUT
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 60 and not list(paragraph.findall(nodes.math)):
            return text if len(text) <= 160 else text[:160].rpartition(" ")[0] + " …"
    return ABOUT


def for_search_engines(app, pagename, templatename, context, doctree):
    """A description, and the card that other sites show for a link."""
    home = app.config.html_baseurl.rstrip("/")
    # Other sites want the whole address.
    picture = "_static/brand/card.jpg"
    picture = f"{home}/{picture}" if home else context["pathto"](picture, resource=True)
    said = {
        "og:type": "website",
        "og:site_name": project,
        "og:title": re.sub("<.*?>", "", context.get("title") or project),
        "og:description": about(pagename, doctree),
        "og:image": picture,
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "A cat's face; bright where a network sees the cat",
    }
    if home:
        said["og:url"] = f"{home}/{pagename}.html"
    tags = [f'<meta property="{k}" content="{escape(v)}">' for k, v in said.items()]
    described = escape(said["og:description"])
    tags.append(f'<meta name="description" content="{described}">')
    tags.append('<meta name="twitter:card" content="summary_large_image">')
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


_uses = Path(__file__).with_name("uses.json")  # tools/build_site.py writes it
USES = json.loads(_uses.read_text(encoding="utf-8")) if _uses.exists() else {}
# These are several modules'.
COMMON = {"grid", "list", "load", "make", "names", "prepare", "read", "region", "rows"}


def used_in(app, what, name, obj, options, lines):
    """Below an entry of the library, the cells of the book that use it first."""
    if what not in ("class", "function"):
        return
    module, own = name.split(".")[-2:]
    known = USES.get(f"{module}.{own}", [])
    if own not in COMMON:
        known = known or USES.get(own, [])
    if known:
        links = (place.split(" ") for place in known)
        listed = ", ".join(f"`{number} <{address}>`__" for number, address in links)
        lines += ["", f"*Used in* {listed}.", ""]


def setup(app):
    app.connect("doctree-read", cell_anchors)
    app.connect("html-page-context", for_search_engines)
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("html-page-context", live_figures)
    # Before napoleon, which has the usual 500.
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("autodoc-process-docstring", used_in, priority=900)
