"""Explain what an image classifier sees in a photograph.

python -m xai_lib explain PHOTO --method aise,rise --model efficientnet_lite0
python -m xai_lib list      the models, photos and methods there are
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from xai_lib import aise, baselines, geex, pertmap, zoo
from xai_lib.core.arguments import check_choice
from xai_lib.core.attribution import Attribution, BlackBoxAttribution
from xai_lib.core.blackbox import BlackBox
from xai_lib.core.extras import extra
from xai_lib.core.precision import PRECISIONS

if TYPE_CHECKING:
    from xai_lib.zoo.models import Classifier

METHODS: dict[str, type[Attribution]] = {
    "aise": aise.AISE,
    "geex": geex.GEEX,
    "gers": geex.GERS,
    "igeex": geex.IGEEX,
    "pertmap": pertmap.StochasticPertMap,
    # All but the one for detectors.
    **{n.lower(): getattr(baselines, n) for n in baselines.__all__ if n != "DRISE"},
}
ASKING = [n for n, kind in METHODS.items() if issubclass(kind, BlackBoxAttribution)]
NEED_LAYERS = ("gradcam", "guidedbackprop", "deeplift", "lrp")
# As their authors do; the others explain the logit.
PROBABILITY = ("aise", "rise", "lime", "kernelshap", "occlusion", "pertmap")


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m xai_lib",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = found.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="models, photos and methods")
    ask = commands.add_parser("explain", help="draw what speaks for a class")
    add = ask.add_argument
    add("photo", metavar="PHOTO", help="an image file, or a name in `list`")
    add("--method", default="aise", help="one or more, commas between (aise)")
    add("--model", default="efficientnet_lite0", help="a name, or .pt, .onnx, .xml")
    add("--target", help="name or number of a class (the predicted one)")
    add("--queries", type=int, help="for a method that only asks (its own default)")
    add("--precision", choices=PRECISIONS, default="float32", help="of such methods")
    add("--out", type=Path, default=Path("map.png"), help="picture, .npy beside it")
    own = ask.add_argument_group("where the model is a file").add_argument
    own("--size", type=int, help="height and width of its images (224)")
    own("--mean", type=numbers, help="of each channel, commas between (0,0,0)")
    own("--std", type=numbers, help="of each channel (1,1,1)")
    return found


def numbers(text: str) -> tuple[float, ...]:
    """One for each channel, out of "0.485,0.456,0.406"."""
    return tuple(float(part) for part in text.split(","))


def settings(name: str, queries: int | None, size: int) -> dict[str, int]:
    """Of a method, for so many queries and images with sides of `size` pixels."""
    if queries is None or name not in ASKING:
        return {}
    least = {"aise": 6, "occlusion": 5}.get(name, 1)
    if queries < least:
        raise ValueError(f"--queries: {name} needs {least} or more, got {queries}")
    if name == "occlusion":  # squares side by side, after the whole image
        return {"window": math.ceil(size / math.isqrt(queries - 1))}
    if name == "aise":  # asks twice about a kernel, at each of three widths
        return {"n_kernels": queries // 6}
    return {"n_samples": queries}


def classifier(options: argparse.Namespace) -> tuple[Classifier, list[str]]:
    """The model that was asked for, and the methods that can explain it."""
    from xai_lib.zoo import model_files, models

    own = {name: getattr(options, name) for name in ("size", "mean", "std")}
    own = {name: value for name, value in own.items() if value is not None}
    path = Path(options.model)
    if path.suffix or path.is_file():
        fit = ASKING
        if path.suffix.lower() in model_files.TORCHSCRIPT:
            fit = [name for name in METHODS if name not in NEED_LAYERS]
        return model_files.read(path, **own), fit
    if own:
        raise ValueError(f"--{', --'.join(own)}: only for a file; {path} has its own")
    return models.load(options.model, show_progress=True), [*METHODS]


def photograph(name: str, model: Classifier) -> Tensor:
    """The image `[1, C, size, size]`, grey where the model takes one channel."""
    from xai_lib.zoo import photos

    known = name in photos.names() and not Path(name).exists()
    size, grey = model.input_size, model.normalize.num_features == 1
    image = photos.load(name, size).image if known else photos.read(name, size)
    return image.mean(dim=1, keepdim=True) if grey else image


def explain(options: argparse.Namespace) -> int:
    """Explain, print what came out, and save the picture and the maps."""
    with extra("book"):
        from matplotlib import pyplot as plt
    from xai_lib import viz
    from xai_lib.zoo.models import probabilities

    out: Path = options.out
    plt.switch_backend("agg")  # no window, so no display
    viz.use_style()
    if out.suffix[1:] not in plt.FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"--out: {out} must end in .png, .jpg, .svg or .pdf")
    if not os.access(out.parent, os.W_OK):
        raise ValueError(f"--out: folder {out.parent} is missing, or not to write to")
    model, fit = classifier(options)
    chosen = {}
    for name in options.method.lower().split(","):
        check_choice(f"--method for {model.name}", name, tuple(fit))
        chosen[name] = settings(name, options.queries, model.input_size)
        if options.precision != "float32" and name not in ASKING:
            raise ValueError(f"--precision: {name} takes gradients, in float32 only")
    image = photograph(options.photo, model)
    answers = BlackBox(model, backend="torch")(image)[0]
    # A single score is explained as it is, and so are probabilities.
    ready = (answers >= 0).all() and abs(answers.sum() - 1) < 1e-3
    rated = model if ready or len(answers) == 1 else probabilities(model)
    scores = BlackBox(rated, backend="torch")(image)[0]

    def label(number: int) -> str:
        known = f" {model.categories[number]!r}" if model.categories else ""
        return f"class {number}{known}, score {float(scores[number]):.3f}"

    target = predicted = int(scores.argmax())
    if options.target is not None:
        target = model.class_number(options.target, len(scores))
    print(f"{options.photo}, by {model.name}: {label(predicted)}")
    print(f"explained: {label(target)}")
    maps = {}
    for name, given in chosen.items():
        asked: Any = rated if name in PROBABILITY else model
        if name in ASKING:  # a network out of a file is not converted once more
            fast = model.categories or options.precision != "float32"
            asked = BlackBox(
                asked,
                backend="auto" if fast else "torch",
                budget=options.queries,
                precision=options.precision,
            )
        began = time.perf_counter()
        try:
            explainer = METHODS[name](asked, **given)
            found = explainer.attribute(image, target, show_progress=True)
        except (ValueError, TypeError, RuntimeError) as error:
            hint = f" (--queries decides {', '.join(given)})" if given else ""
            raise ValueError(f"--method {name}: {error}{hint}") from error
        spent = f"{asked.queries:,} queries" if name in ASKING else "gradients"
        file = out.with_name(out.stem + (f"-{name}.npy" if len(chosen) > 1 else ".npy"))
        np.save(file, found[0].cpu().numpy())
        print(f"{name}: {spent}, {time.perf_counter() - began:.1f} s, {file}")
        # What is above zero everywhere would cover the whole photo.
        least = max(0.0, float(found.sum(dim=1).min()))
        title = f"{name}, above {least:.2g}" if least else name
        maps[title] = found - least / found.shape[1]
    viz.grid(image, maps, overlay=[*maps], title=label(target)).savefig(out, dpi=200)
    print(out)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # not every code page has σ
    asked = parser()
    options = asked.parse_args(arguments)
    try:
        if options.command == "explain":
            return explain(options)
        zoo.list()
        print("\nMETHOD")
        for name, kind in METHODS.items():
            print(f"{name:20} {str(kind.__doc__).splitlines()[0]}")
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has closed the pipe; Python would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        asked.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
