"""The data of the live figures of chapters 00, 01, 10 and 11."""

from __future__ import annotations

import html

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from live_pieces import (
    Found,
    bare,
    grey_levels,
    highest,
    opened,
    packed,
    picture,
    unpacked,
)
from xai_book.methods import METHODS
from xai_book.studies import claims, showdown
from xai_lib import viz
from xai_lib.baselines import RISE, Gradient, IntegratedGradients, Occlusion
from xai_lib.core.blackbox import BlackBox
from xai_lib.zoo import digits, models, photos

# Chapter 00: maps and a threshold


def threshold() -> Found:
    """Four maps of one photograph, and the probability with their best pixels alone."""
    side = 56
    image = photos.load("chelsea").image
    network = models.probabilities(models.load("efficientnet_lite0"))
    target = int(network(image).argmax())
    ask = BlackBox(network)
    explainers = {
        "Gradient": Gradient(network),
        "Integrated Gradients": IntegratedGradients(network, n_steps=64),
        "Occlusion": Occlusion(ask, 32, 16),
        "RISE": RISE(ask, n_samples=1000),
    }
    shares = [share / 100 for share in range(5, 101, 5)]
    maps = []
    for name, explainer in explainers.items():
        heat = explainer.attribute(image, target)
        if "Grad" in name:
            heat = heat.abs().sum(dim=1, keepdim=True)
        heat = F.adaptive_avg_pool2d(heat, side)[0, 0].double()
        span = heat.max() - heat.min()
        values = ((heat - heat.min()) / span * 65535).round().numpy().astype(np.uint16)
        kept = torch.stack([torch.from_numpy(highest(values, s)) for s in shares])
        large = F.interpolate(kept[:, None].float(), size=224)
        chances = ask(image * large)[:, target]
        maps.append(
            {
                "name": name,
                "values": packed(values, np.uint16),
                "chances": [round(chance, 4) for chance in chances.tolist()],
            }
        )
    return {
        "photo": picture(image[0]),
        "label": photos.class_name(target),
        "side": side,
        "shares": shares,
        "start": 0.7,
        "maps": maps,
    }


def draw_threshold(found: Found) -> plt.Figure:
    """What each map leaves of the photograph."""
    fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.4))
    photo, stop = opened(found["photo"]), found["shares"].index(found["start"])
    for ax, row in zip(axes, found["maps"], strict=True):
        values = unpacked(row["values"], np.uint16).reshape(found["side"], -1)
        kept = highest(values, found["start"])
        factor = photo.shape[0] // found["side"]
        ax.imshow(photo * kept.repeat(factor, 0).repeat(factor, 1)[..., None])
        ax.set_title(row["name"])
        ax.set_xlabel(f"{found['label']}: {row['chances'][stop]:.0%}")
    bare(axes)
    return fig


# Chapter 01: delete the highest scores


def deletion() -> Found:
    """Three maps and a floor of two digits, and the probability without their best
    pixels."""
    network, mnist = models.load("cnn_mnist"), digits.mnist()
    ask = BlackBox(models.probabilities(network))
    explainers = {
        "Integrated Gradients": IntegratedGradients(network),
        "Gradient": Gradient(network),
        "RISE": RISE(ask, n_samples=2000),
    }
    shares = [share / 100 for share in range(0, 101, 4)]
    middle = torch.arange(28) - 13.5
    centre = -(middle[:, None] ** 2 + middle**2)
    rows = []
    for index in (0, 4):
        x, label = mnist.images[index : index + 1], int(mnist.labels[index])
        heats = {n: e.attribute(x, label)[0, 0] for n, e in explainers.items()}
        maps = []
        for name, heat in (heats | {"centre, a floor": centre}).items():
            span = heat.max() - heat.min()
            values = ((heat - heat.min()) / span * 65535).round().numpy()
            values = values.astype(np.uint16)
            gone = torch.stack([torch.from_numpy(highest(values, s)) for s in shares])
            chances = ask(x * ~gone[:, None])[:, label]
            maps.append(
                {
                    "name": name,
                    "values": packed(values, np.uint16),
                    "chances": [round(chance, 4) for chance in chances.tolist()],
                }
            )
        rows.append({"label": label, "image": grey_levels(x), "maps": maps})
    return {"shares": shares, "digits": rows}


def draw_deletion(found: Found) -> plt.Figure:
    """One digit, two of its maps, and its deletion curves."""
    row = found["digits"][0]
    fig, axes = plt.subplots(1, 4, figsize=(7.4, 2.2), width_ratios=(1, 1, 1, 1.8))
    axes[0].imshow(unpacked(row["image"], np.uint8).reshape(28, 28), cmap="gray")
    axes[0].set_title(f"a “{row['label']}”")
    for ax, one in zip(axes[1:3], (row["maps"][0], row["maps"][2]), strict=True):
        values = unpacked(one["values"], np.uint16).reshape(28, 28)
        ax.imshow(values, cmap=viz.style.POSITIVE)
        ax.set_title(one["name"])
    for one in row["maps"]:
        axes[3].plot(found["shares"], one["chances"], marker="", label=one["name"])
    axes[3].set(xlabel="share deleted", title="probability")
    axes[3].legend(fontsize=8, labelspacing=0.1, frameon=False)
    bare(axes[:3])
    return fig


# Chapter 11: the claims


def ruled() -> Found:
    """The papers' statements with their verdicts."""
    return {
        "rows": [
            {
                "id": ruling.id,
                "paper": ruling.paper,
                "section": ruling.where,
                "statement": ruling.statement,
                "chapter": ruling.chapter,
                "verdict": ruling.verdict,
                "data": list(ruling.verdicts),
                "proved": ruling.proved,
                "printed": "" if ruling.proved else ruling.printed,
                "note": ruling.note,
                "scale": ruling.scale,
                "paper_scale": ruling.paper_scale,
            }
            for ruling in claims.rulings()
        ]
    }


SIMPLE = ("holds", "does not hold", "open", "too few", "not measured")


def claims_table(found: Found) -> str:
    """The table, each row with what it can be filtered by."""
    body = []
    for row in found["rows"]:
        kind = row["verdict"] if row["verdict"] in SIMPLE else "depends on the data"
        filters = {"paper": row["paper"], "verdict": kind, "chapter": row["chapter"]}
        data = "".join(f' data-{k}="{html.escape(v)}"' for k, v in filters.items())
        paper = f"{row['paper']}, {row['section']}"
        scale = f"{row['scale']}; in the paper: {row['paper_scale']}"
        cells = (
            *(paper, ". ".join(filter(None, (row["statement"], row["note"])))),
            *(row["verdict"], row["printed"], scale if row["scale"] else ""),
            row["chapter"],
        )
        text = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        body.append(f"<tr{data}>{text}</tr>")
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in (
            *("Paper, section", "Statement", "Verdict", "On the printed numbers"),
            *("Scale", "Chapter"),
        )
    )
    rows = "\n".join(body)
    return (
        '<table tabindex="0" aria-label="The claims">'
        + f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"
    )


# Chapter 10: questions that lead to a method

BUDGETS = (0, 100, 300, 500, 1000, 2000, 5000, 8000)
MEANING = {
    "aopc": "its best pixels, deleted, take the class away (AOPC)",
    "insertion": "its best pixels, shown alone, bring the class back (insertion)",
    "kept": "its worst pixels, painted grey, leave the class (flipping)",
    "agreement": "it agrees with Integrated Gradients (rank correlation)",
    "stability": "it hardly changes when the image hardly does (stability)",
    "energy": "its mass lies on the object (energy)",
    "pointing": "its maximum lies on the object (pointing game)",
}


def method() -> Found:
    """The bench: mean scores by data and measure, and what `decide` recommends for each
    budget, without and with gradients."""
    found = []
    for table in showdown.tables():
        labels = list(table.scores)
        decisions = [
            _decided(table, budget, gradients)
            for gradients in (False, True)
            for budget in BUDGETS
        ]
        found.append(
            {
                "data": table.data,
                "measure": table.measure,
                "images": len(next(iter(table.scores.values()))),
                "methods": [label.method for label in labels],
                "budgets": [label.budget for label in labels],
                "means": [round(float(v.mean()), 3) for v in table.scores.values()],
                "decisions": decisions,
            }
        )
    return {
        "budgets": BUDGETS,
        "floors": [m for m in showdown.KNOWS_NOTHING if m not in METHODS],
        "meaning": MEANING,
        "tables": found,
    }


def _decided(table: showdown.Table, budget: int, gradients: bool) -> list | None:
    """Places in the table's labels: what to take or -1, the best floor or -1, and all
    that cannot be told apart from the best one; nothing if no method is allowed."""
    labels = list(table.scores)
    decision = showdown.decide(table.scores, budget, gradients=gradients)
    if decision is None:
        return None
    taken, floor = (
        -1 if label is None else labels.index(label)
        for label in (decision.label, decision.floor)
    )
    return [taken, floor, [labels.index(label) for label in decision.alike]]


def draw_method(found: Found) -> plt.Figure:
    """The bench of scenes by energy, for 1,000 queries and no gradients."""
    wanted = ("scenes", "energy")
    (table,) = (t for t in found["tables"] if (t["data"], t["measure"]) == wanted)
    taken = table["decisions"][BUDGETS.index(1000)][0]
    kept = [
        i
        for i, (name, budget) in enumerate(
            zip(table["methods"], table["budgets"], strict=True)
        )
        if name in found["floors"] or (budget or np.inf) <= 1000
    ]
    kept.sort(key=lambda i: table["means"][i])
    fig, ax = plt.subplots(figsize=(6, 0.19 * len(kept) + 0.8))
    colours = ["#D55E00" if i == taken else "grey" for i in kept]
    ax.scatter([table["means"][i] for i in kept], range(len(kept)), c=colours)
    names = [f"{table['methods'][i]} {table['budgets'][i] or ''}" for i in kept]
    ax.set_yticks(range(len(kept)), names)
    ax.set_xlabel(f"mass on the object, mean of {table['images']} scenes")
    return fig
