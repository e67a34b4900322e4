"""The list of verdicts that changed when the papers' own settings were measured.

    python tools/verdicts.py             writes docs/verdicts.md

`data/published/verdicts_before.csv` holds the verdicts as they were: Figure 1 with
logits, signed rivals and ties by position, Table 1 at a width of 0.5, no rule tried on
the printed numbers, each comparison by itself.
"""

import csv
from pathlib import Path

from sync_notebooks import ROOT
from xai_book.studies import claims
from xai_book.studies.claims import Ruling

BEFORE = Path("data", "published", "verdicts_before.csv")
PAGE = Path("docs", "verdicts.md")
HEAD = """# Verdicts that changed

Made by `python tools/verdicts.py` from the rows and rules that are stored; all verdicts
are in [the claims](live.md). Before, the rules were not tried on the papers' own
numbers, Figure 1 and Table 1 were not measured at the authors' settings, and each of a
statement's comparisons could fail it by chance.
"""
STUDIES = {
    "figure1_as_published": "measured in the cell of Figure 1 nearest to the authors' "
    "(probabilities, absolute rivals, strictly smaller than the quantile; photographs "
    "with 6,000 steps of one draw), was: logits, signed rivals, ties by position (150 "
    "steps of four)",
    "table1": "measured at the authors' σ, .154 on small images (was: .5) and .034 on "
    "photographs (was: .15)",
}


def reasons(ruling: Ruling) -> list[str]:
    """Why a verdict may have changed: what is known of its rule, rows and images."""
    found = [ruling.note] if ruling.note else []
    study = claims.listed()[ruling.id][0]["study"]
    images = {bed: min(c.images for c in of) for bed, of in ruling.parts.items()}
    if study in STUDIES:
        least = ", ".join(
            f"{n} of {bed}" for bed, n in images.items() if "×" not in bed
        )
        found.append(f"{STUDIES[study]}; images: {least}")
    few = [
        f"{images[b]} {b}" for b, said in ruling.verdicts.items() if said == "too few"
    ]
    if few:
        found.append(f"too few to come out true: {', '.join(few)}")
    every = [c for of in ruling.parts.values() for c in of]
    # What the interval alone would call a failure, and Holm's steps do not.
    spared = [c for c in every if c.verdict == "open" and c.doubt <= claims.WRONG]
    if spared and claims.listed()[ruling.id][0]["by"] != "stronger":
        found.append(
            f"{len(spared)} of {len(every)} comparisons fail by themselves only"
        )
    return found


def page(root: Path = ROOT) -> str:
    """The text of the page, a line for each statement whose verdict is another."""
    with (root / BEFORE).open(encoding="utf-8", newline="") as file:
        before = {row["id"]: row["verdict"] for row in csv.DictReader(file)}
    lines = [HEAD, "| statement | before | now | printed numbers | why |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for ruling in claims.rulings():
        if ruling.verdict == before.get(ruling.id, ruling.verdict):
            continue
        about = f"{ruling.paper}, {ruling.where}: {ruling.statement}"
        why = "; ".join(reasons(ruling))
        cells = (about, before[ruling.id], ruling.verdict, ruling.printed, why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / PAGE).write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
