"""Speed of PertMap, as ratios within one run.

    python benchmarks/pertmap.py [--quick]

Times are medians of interleaved repeats, so that what else the machine does meets both
sides of a ratio. `--quick` takes fewer repeats and a quarter of the 1,000 classes.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median

import numpy as np
import torch
from scipy.optimize import linprog
from timing import ratio
from torch import Tensor

from xai_lib.core.gradients import batch_rows
from xai_lib.pertmap import LinearPertMap, StochasticPertMap
from xai_lib.pertmap.linear import largest_box
from xai_lib.zoo import digits, models, photos


def timed(repeats: int, **jobs: Callable[[], object]) -> dict[str, list[float]]:
    """Seconds of each job, after one warm-up, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            began = time.perf_counter()
            job()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def many_images(device: str, repeats: int) -> None:
    model = models.load("cnn_mnist").to(device)
    images = digits.mnist().images[:64].to(device)
    explainer = StochasticPertMap(model, n_iterations=10)
    times = timed(
        repeats,
        together=lambda: explainer.solve(images),
        alone=lambda: [explainer.solve(image[None]) for image in images[:8]],
    )
    together = [t / 64 for t in times["together"]]
    alone = [t / 8 for t in times["alone"]]
    print(
        f"64 images on the CNN, {device}: {1e3 * median(together) / 10:.2f} ms per "
        f"image and iteration together, {1e3 * median(alone) / 10:.2f} ms alone"
    )
    ratio(f"an image alone / one of 64, {device}", alone, together, ">= 1")


def per_iteration(name: str, device: str, repeats: int) -> None:
    model = models.load(name).to(device)
    lite = name == "efficientnet_lite0"
    x = photos.load("chelsea").image if lite else digits.mnist().images[:32]
    x = x.to(device)
    explainer = StochasticPertMap(model, n_iterations=(2 if lite else 20))
    target = model(x).argmax(dim=1)
    # The same numbers of rows go through the model at once on both sides.
    rows = len(x) * explainer.n_perturbations
    passes = math.ceil(explainer.n_perturbations / batch_rows(x, x.device))
    parts = [
        torch.rand(len(x) * len(part), *x.shape[1:], device=device)
        for part in torch.arange(explainer.n_perturbations).chunk(passes)
    ]

    def bare() -> None:
        for _ in range(explainer.n_iterations):
            for points in parts:
                points.requires_grad_()
                torch.autograd.grad(model(points).sum(), points)

    times = timed(
        repeats,
        bare=bare,
        solve=lambda: explainer._ascend(x, target, range(explainer.n_iterations)),
    )
    print(
        f"One iteration of {rows} points in {len(parts)} passes on {name}, {device}: "
        f"{1e3 * median(times['solve']) / explainer.n_iterations:.1f} ms"
    )
    title = f"iteration / bare forward and backward, {name}, {device}"
    goal = "<= 1.10" if lite else "<= 1.25"
    ratio(title, times["solve"], times["bare"], goal)


def jacobian(device: str, repeats: int) -> None:
    """4 n rows of a photograph's Jacobian: n copies of it, and `is_grads_batched`."""
    model = models.load("efficientnet_lite0").to(device)
    x = photos.load("chelsea").image.to(device)
    n = batch_rows(x, x.device)

    def some_classes(x: Tensor) -> Tensor:
        return model(x)[:, : 4 * n + 1]

    explainer, target = LinearPertMap(some_classes), torch.tensor([0])

    def copies() -> Tensor:
        _, falls, _ = next(explainer._linearise(x, target, 4 * n + 1, False))
        return torch.from_numpy(falls)

    def batched() -> Tensor:
        point = x.clone().requires_grad_()
        scores = some_classes(point)
        seeds = -torch.eye(4 * n + 1, device=device)[1:, None]
        seeds[:, :, 0] = 1
        falls = []
        for some in seeds.split(n):
            slopes = torch.autograd.grad(
                scores, point, some, retain_graph=True, is_grads_batched=True
            )[0]
            explainer._patch_sums((-slopes).clamp(min=0))
            falls.append(explainer._patch_sums(slopes.clamp(min=0)).flatten(0, 1))
        return torch.cat(falls).double().cpu()

    assert torch.allclose(copies(), batched(), atol=1e-3)
    times = timed(repeats, batched=batched, copies=copies)
    title = f"Jacobian, is_grads_batched / copies of the image, {device}"
    ratio(title, times["batched"], times["copies"], ">= 1")


def exact_program(device: str, n_classes: int) -> None:
    lite = models.load("efficientnet_lite0").to(device)

    def model(x: Tensor) -> Tensor:
        return lite(x)[:, -n_classes:]

    x = photos.load("chelsea").image.to(device)
    explainer = LinearPertMap(model)
    target = model(x).argmax(dim=1).cpu()
    began = time.perf_counter()
    programs = explainer._linearise(x, target, n_classes, True)
    limits, falls, rises = next(iter(programs))
    jacobian = time.perf_counter() - began
    print(
        f"Jacobian of {n_classes} classes at 224², {device}: {jacobian:.1f} s, "
        f"{1e3 * jacobian / n_classes:.0f} ms per class"
    )
    counts = explainer._patch_sums(torch.ones_like(x.cpu()))[0].double().numpy()
    penalty = explainer.penalty
    for two_sided in (False, True):
        rows = np.hstack([falls, rises]) if two_sided else falls + rises
        gains = np.tile(counts / 2, 2) if two_sided else counts
        began = time.perf_counter()
        w, slack, used = largest_box(rows, limits, gains, explainer.bound, penalty)
        seconds = time.perf_counter() - began
        optimum = gains @ w - penalty * slack
        # A process of its own can be stopped.
        receive, send = multiprocessing.Pipe(duplex=False)
        args = (send, rows, limits, gains, explainer.bound, penalty)
        process = multiprocessing.get_context("fork").Process(target=_whole, args=args)
        began = time.perf_counter()
        process.start()
        if receive.poll(10 * seconds):
            whole = time.perf_counter() - began
            status, value = receive.recv()
            outcome = (
                f"status {status}, optimum off by "
                f"{abs(value - optimum) / abs(optimum):.1e}"
            )
            kind = "two-sided" if two_sided else "common w"
            ratio(f"whole linear program / ours, {kind}", [whole], [seconds])
        else:
            process.kill()
            outcome = "stopped after 10 times as long"
        process.join()
        print(
            f"Linear program, {'two-sided' if two_sided else 'common w'}, "
            f"{len(gains)} unknowns: {seconds:.2f} s with {used} of {len(rows)} rows; "
            f"the whole program: {outcome}"
        )


def _whole(
    send: Connection,
    rows: np.ndarray,
    limits: np.ndarray,
    gains: np.ndarray,
    bound: float,
    penalty: float,
) -> None:
    answer = linprog(
        np.append(-gains / gains.max(), penalty / gains.max()),
        A_ub=np.column_stack([rows, -np.ones(len(rows))]),
        b_ub=limits,
        bounds=[(0, bound)] * len(gains) + [(0, None)],
        method="highs",
    )
    send.send((answer.status, -answer.fun * gains.max()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    if "cuda" not in devices:
        print("No CUDA device here: its part is skipped.")
    for device in devices:
        many_images(device, repeats=3 if quick else 9)
        per_iteration("cnn_mnist", device, repeats=5 if quick else 15)
        per_iteration("efficientnet_lite0", device, repeats=3 if quick else 7)
        jacobian(device, repeats=3 if quick else 7)
        exact_program(device, n_classes=250 if quick else 1000)


if __name__ == "__main__":
    main()
