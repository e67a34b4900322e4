"""What a GPU does with the methods: `python -m xai_book gpu`.

A row, a line of JSON, is written as soon as it is measured. Weights are random, nothing
is downloaded, and what needs a package that is missing is left out, and a line says so.

    agreement   every explainer and metric: the map on the device and on the CPU
    kernels     each kernel and its plain form: difference, time, share of bandwidth
    throughput  queries per second of a method over those of bare inference
    precision   float32, TF32 and bfloat16: speed, and what they do to a map
    memory      the most memory a method takes; an out-of-memory that is survived
    paper       minutes for the papers' tables, from counted queries and this speed
    studies     with the time left, rows that the book's stores lack, into `--rows`
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from xai_lib import baselines, geex, metrics, pertmap
from xai_lib.aise import AISE
from xai_lib.core.blackbox import BlackBox
from xai_lib.kernels import kernels_run_on, masks, philox, search

Rows = Iterator[dict[str, Any]]
Run = Callable[[], Any]


class Bench:
    """Where and how large: the device, the sizes, and when to stop."""

    def __init__(self, device: str, tiny: bool, minutes: float, rows: Path) -> None:
        self.device, self.tiny, self.rows = torch.device(device), tiny, rows
        self.on_gpu = self.device.type == "cuda"
        self.ends = time.monotonic() + 60 * minutes
        # A `BlackBox` asks at most 111 at once.
        self.size, self.batch = (16, 8) if tiny else (224, 96)
        self.queries, self.repeats = (16, 1) if tiny else (4032, 3)

    def seconds(self, run: Run) -> float:
        """The median time of a call, after one that warms up."""
        times = []
        for _ in range(1 + self.repeats):
            began = time.perf_counter()
            run()
            if self.on_gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
            if time.monotonic() > self.ends:
                break
        return median(times[1:] or times)

    def image(self) -> Tensor:
        """One, smooth enough to have superpixels, in [0, 1]: `[1, 3, size, size]`."""
        z = philox.uniforms(0, 0, 1, 48, device=self.device).view(1, 3, 4, 4)
        return (nn.functional.interpolate(z, self.size, mode="bilinear") + 1) / 2


def small_network() -> nn.Sequential:
    """One that has the same weights on every machine, and tells places apart."""
    features = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
    classes = nn.Flatten(), nn.Linear(128, 10), nn.Softmax(dim=1)
    layers = nn.Sequential(*features, *classes)
    for stream, p in enumerate(layers.parameters(), start=1):
        p.data = 0.3 * philox.normals(0, 0, 1, p.numel(), stream).view(p.shape)
    return layers.eval()


def networks(bench: Bench) -> Iterator[tuple[str, nn.Module]]:
    """Names and networks on the device; those that cannot be had are left out."""
    names = ("small",) if bench.tiny else ("efficientnet_lite0", "resnet50", "vgg16")
    for name in names:
        try:
            made = network(name)
        except ImportError as error:
            print(f"{name} is left out: {error}", flush=True)
            continue
        yield name, made.eval().to(bench.device)


def network(name: str) -> nn.Module:
    if name == "small":
        return small_network()
    if name == "efficientnet_lite0":
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name("efficientnet-lite0")
    from torchvision.models import get_model

    return get_model(name, weights=None)


def explainers(model: nn.Sequential, bench: Bench) -> dict[str, Any]:
    """Each with few queries; those with rules for layers know no softmax."""
    n, logits = 64, model[:5]
    return {
        "GEEX": geex.GEEX(model, n),
        "GERS": geex.GERS(model, n, mask_size=7),
        "IGEEX": geex.IGEEX(model, n),
        "AISE": AISE(model, n_kernels=10),
        "PertMap": pertmap.StochasticPertMap(model, n_iterations=5, n_perturbations=4),
        "LinearPertMap": pertmap.LinearPertMap(logits, patch=4),
        "RISE": baselines.RISE(model, n),
        "Occlusion": baselines.Occlusion(model, window=bench.size // 4),
        "LIME": baselines.LIME(model, n, n_segments=8),
        "KernelSHAP": baselines.KernelSHAP(model, n, n_segments=8),
        "ExtremalPerturbation": baselines.ExtremalPerturbation(model, n_iterations=5),
        "Gradient": baselines.Gradient(model),
        "SmoothGrad": baselines.SmoothGrad(model, n_samples=8),
        "IntegratedGradients": baselines.IntegratedGradients(model, n_steps=8),
        "GradCAM": baselines.GradCAM(logits, layer="0"),
        "GuidedBackprop": baselines.GuidedBackprop(logits),
        "DeepLift": baselines.DeepLift(logits),
        "LRP": baselines.LRP(logits),
    }


def results(model: nn.Sequential, x: Tensor, bench: Bench) -> dict[str, Run]:
    """Every map of x, and every metric of one."""
    heat, inside = x.mean(dim=1, keepdim=True), x[:, 0] > x[:, 0].mean()
    made = explainers(model, bench)
    maps = {name: partial(made[name].attribute, x, 1) for name in made}
    return maps | {
        "deletion": lambda: metrics.deletion(model, x, heat, 1, 16).aopc,
        "insertion": lambda: metrics.insertion(model, x, heat, 1, 16).auc,
        "flipping": lambda: metrics.flipping(model, x, heat).ratio,
        "map_distance": lambda: metrics.map_distance(heat, x),
        "pointing_hits": lambda: metrics.pointing_hits(heat, inside),
        "energy_inside": lambda: metrics.energy_inside(heat, inside),
    }


def agreement(bench: Bench) -> Rows:
    x = bench.image()
    there = results(small_network().to(bench.device), x, bench)
    for name, here in results(small_network(), x.cpu(), bench).items():
        try:
            expected, found = here().double(), there[name]().cpu().double()
            scale = max(float(expected.abs().max()), 1e-12)
            difference = float((found - expected).abs().max()) / scale
            yield {"name": name, "difference": difference, "agrees": difference < 1e-3}
        except Exception as error:
            what = "left out" if isinstance(error, ImportError) else "error"
            yield {"name": name, what: f"{type(error).__name__}: {error}"}


def kernels(bench: Bench) -> Rows:
    """The share is of the time in which a copy would write as much as the result."""
    x, count, device = bench.image(), bench.batch, bench.device
    large = torch.zeros(2**12 if bench.tiny else 2**28, device=device)
    written = 4 * large.numel() / bench.seconds(large.clone)
    yield {"name": "copy", "GB/s written": written / 1e9}
    weights = philox.normals(1, 0, 1, count, device=device)
    cells = philox.uniforms(2, 0, count, 49, device=device).view(-1, 7, 7).lt(0).float()
    most = masks.most_shift(7, bench.size)
    seen = x, cells, philox.integers(3, 0, count, 2, most + 1, device=device)
    asked, summed = (x, 0.3, True, 7, 0, count // 2), (weights, x.numel(), 7, 0)
    cases: dict[str, tuple[Callable, Callable, Any]] = {
        "x ± σε": (search.queries, search.plain_queries, asked),
        "Σ (f₊ − f₋) ε": (search.weighted_noise, search.plain_weighted_noise, summed),
        "x ⊙ m": (masks.shown, masks.plain_shown, seen),
    }
    if bench.on_gpu:
        compiled, profiles = torch.compile(masks.blurred), x[0, 0, :1].repeat(count, 1)
        blurred = x, torch.zeros_like(seen[2][:, 0]), profiles, profiles
        cases["x ⊙ G, compiled"] = compiled, masks.blurred, blurred
    for name, (kernel, plain, arguments) in cases.items():
        found = kernel(*arguments)
        difference = float((found - plain(*arguments)).abs().max())
        fast, slow = (bench.seconds(partial(f, *arguments)) for f in (kernel, plain))
        share = found.numel() * found.element_size() / fast / written
        row = {"name": name, "kernel": kernels_run_on(device), "difference": difference}
        yield row | {"seconds": fast, "plain seconds": slow, "share of a copy": share}
    here, there = (philox.normals(5, 3, 4, 999, device=d) for d in ("cpu", device))
    yield {"name": "normals", "agrees": torch.equal(here, there.cpu())}


def by_kernels(model: BlackBox, x: Tensor, n: int, batch: int) -> Tensor:
    """GEEX of n queries, whole batches, with nothing drawn or kept on the host."""
    total = torch.zeros(1, x.numel(), device=x.device)
    for first in range(0, n // 2, batch // 2):
        asked = search.queries(x, 0.3, True, 0, first, batch // 2)
        plus, minus = model(asked.flatten(0, 1))[:, 1].chunk(2)
        total += search.weighted_noise((plus - minus)[None] / 2, x.numel(), 0, first)
    return (total / (n // 2 * 0.3)).view_as(x)


def bare(network: nn.Module, bench: Bench) -> float:
    """Queries per second of the network alone, in the better of two layouts."""
    many = bench.image().expand(bench.batch, -1, -1, -1)
    with torch.no_grad():
        return bench.batch / min(
            bench.seconds(partial(network, many.contiguous(memory_format=layout)))
            for layout in (torch.contiguous_format, torch.channels_last)
        )


def throughput(bench: Bench) -> Rows:
    """Goal: 0.9 of bare inference, at the same batch and precision (TF32)."""
    for name, network in networks(bench):
        x, n, rate = bench.image(), bench.queries, bare(network, bench)
        yield {"name": name, "method": "bare", "queries/s": rate}
        box = BlackBox(network, batch_size=bench.batch, backend="torch")
        methods: dict[str, Run] = {
            "GEEX by kernels": partial(by_kernels, box, x, n, bench.batch),
            "GEEX": partial(geex.GEEX(box, n).attribute, x, 1),
            "GERS": partial(geex.GERS(box, n).attribute, x, 1),
            "RISE": partial(baselines.RISE(box, n).attribute, x, 1),
            "AISE": partial(AISE(box, n_kernels=n // 6).attribute, x, 1),
        }
        for method, run in methods.items():
            before = box.queries
            run()
            found = (box.queries - before) / bench.seconds(run)
            row = {"name": name, "method": method, "batch": bench.batch}
            yield row | {"queries/s": found, "share of bare": found / rate}


def precision(bench: Bench) -> Rows:
    for name, network in networks(bench):
        reference = None
        for kind in ("float32", "TF32", "bfloat16"):
            asked = "float32" if kind == "TF32" else kind
            box = BlackBox(network, bench.batch, backend="torch", precision=asked)
            explain = partial(geex.GERS(box, bench.queries).attribute, bench.image(), 1)
            with tf32(kind == "TF32"):
                heat, seconds = explain().flatten().double(), bench.seconds(explain)
            reference = heat if reference is None else reference
            cosine = float(torch.cosine_similarity(heat, reference, dim=0))
            row = {"name": name, "kind": kind, "queries/s": bench.queries / seconds}
            yield row | {"cosine to float32": cosine}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether products of float32 may be rounded to TF32."""
    kept = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(kept[0])
        torch.backends.cudnn.allow_tf32 = kept[1]


def memory(bench: Bench) -> Rows:
    if not bench.on_gpu:
        yield {"name": "memory", "left out": "a CPU counts no memory of its own"}
        return
    model, x = small_network().to(bench.device), bench.image()
    for name, run in results(model, x, bench).items():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with suppress(ImportError):
            run()
            peak = torch.cuda.max_memory_allocated() - before
            yield {"name": name, "peak MiB": peak / 2**20}
    many = x.repeat(64, 1, 1, 1)
    expected = BlackBox(model, batch_size=1, backend="torch")(many)
    box = BlackBox(model, batch_size=64, backend="torch")
    torch.cuda.empty_cache()
    # 64 MiB are left, which is less than 64 images at once take.
    left = torch.cuda.memory_reserved() + 2**26
    torch.cuda.set_per_process_memory_fraction(left / torch.cuda.mem_get_info()[1])
    try:
        found = box(many)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    kept = box.batch_size.best
    agrees = kept < 64 and torch.allclose(found, expected, atol=1e-5)
    yield {"name": "out of memory", "batch of 64 became": kept, "agrees": agrees}


PAPER = {  # network, and queries as the papers count them; a backward pass is two
    "AISE-300, 1,000 pairs of image and class": ("resnet50", 1000 * 50 * 3 * 2),
    "RISE-8000, 1,000 pairs of image and class": ("resnet50", 1000 * 8000),
    "GEEX with 5,000 queries, 200 images": ("resnet50", 200 * 5000),
    "stochastic PertMap, 200 images": ("vgg16", 200 * 500 * 32 * 3),
}


def paper(bench: Bench) -> Rows:
    speed = {name: bare(network, bench) for name, network in networks(bench)}
    for item, (name, queries) in PAPER.items():
        if name in speed:
            yield {"name": item, "minutes": queries / speed[name] / 60}


STUDIES = ("aise_convergence", "table1_photos", "aise_scenes")
"""Whose verdicts wait for more images, in the order of their value."""


def studies(bench: Bench) -> Rows:
    """Rows that the book's stores lack, measured here; a copy of `bench.rows` over
    `data/results` and `python -m xai_book run` add them to the book's."""
    from xai_book.studies.catalogue import STUDIES as known
    from xai_book.studies.results import Results

    def until_late(measure: Callable, groups: Sequence[Any]) -> Iterator[Any]:
        for group in groups:
            if time.monotonic() > bench.ends:
                return
            with suppress(ImportError):  # of what a method needs and is missing here
                yield measure(group)

    for name in STUDIES[: 1 if bench.tiny else None]:
        units = known[name].units()
        with suppress(ImportError):  # what reads the book's tables
            units = units[:2] if bench.tiny else Results(name).missing(units)
        store, run = Results(name, bench.rows), known[name].run
        before = len(store.rows())
        store.run(units, run.work, run.size, spread=until_late)
        yield {"name": name, "rows": len(store.rows()) - before, "wanted": len(units)}


PARTS: dict[str, Callable[[Bench], Rows]] = {
    f.__name__: f
    for f in (agreement, kernels, throughput, precision, memory, paper, studies)
}


def whole(name: str, bench: Bench) -> Rows:
    """A part's rows. An error or a missing package ends the part, and not the run."""
    try:
        with tf32(name in ("throughput", "paper")):
            for row in PARTS[name](bench):
                yield row
                if time.monotonic() > bench.ends:
                    yield {"name": name, "left out": "the rest, as the time is over"}
                    return
    except Exception as error:
        what = "left out" if isinstance(error, ImportError) else "error"
        yield {"name": name, what: f"{type(error).__name__}: {error}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every part ran and all agrees, 1 if not, 2 without the device."""
    parser = argparse.ArgumentParser("python -m xai_book gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes: a test")
    parser.add_argument("--minutes", type=float, default=6, help="default: 6")
    parser.add_argument("--out", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--rows", type=Path, default=Path("rows"), metavar="FOLDER")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    chosen = parser.parse_args(arguments)
    bench = Bench(chosen.device, chosen.tiny, chosen.minutes, chosen.rows)
    if bench.on_gpu and not torch.cuda.is_available():
        print("no GPU here: torch.cuda.is_available() is False", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name() if bench.on_gpu else f"CPU {platform.machine()}"
    name += ", tiny" * chosen.tiny
    about = {"device": name, "torch": torch.__version__, "date": str(date.today())}
    wrong = False
    with chosen.out.open("a", encoding="utf-8") as file:
        for part in chosen.parts:
            for row in whole(part, bench):
                wrong |= "error" in row or row.get("agrees") is False
                text = json.dumps({"part": part, **row, **about}, ensure_ascii=False)
                print(text, file=file, flush=True)
                shown = (f"{k}: {v}" for k, v in row.items())
                print(part, *shown, sep="  ", flush=True)
    return int(wrong)
