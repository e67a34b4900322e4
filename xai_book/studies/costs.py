"""What a map costs, counted or in units that do not depend on the machine's speed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from xai_lib.core.blackbox import BlackBox


def peak_memory(work: Callable[[], object]) -> int:
    """The most bytes that torch held at once on the CPU while it worked.

    Sums what torch's allocator reports, so it is a count and not a measurement; what
    was held before, as the model's weights, and NumPy's arrays are not in it.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as seen:
        work()
    assert seen.profiler is not None
    assert seen.profiler.kineto_results is not None
    events = seen.profiler.kineto_results.events()
    sizes = [
        (event.start_ns(), event.nbytes())
        for event in events
        if event.name() == "[memory]" and event.device_type().name == "CPU"
    ]
    in_order = np.array([size for _, size in sorted(sizes, key=lambda one: one[0])])
    return int(in_order.cumsum().max(initial=0))


def bare(box: BlackBox, image: Tensor) -> float:
    """Processor seconds of a query in a whole batch: best of 3."""
    images = image.expand(box.batch_size.best, -1, -1, -1).contiguous()
    times = []
    for _ in range(3):
        began = time.process_time()
        box(images)
        times.append(time.process_time() - began)
    return min(times) / len(images)


@contextmanager
def passes(model: nn.Module) -> Iterator[list[int]]:
    """Counts inputs that go through the model, or through the copies that layer-wise
    methods make of it, which keep a layer's hooks."""
    count = [0]
    once = (nn.Flatten, nn.AdaptiveAvgPool2d)  # what every input passes one time
    layer = next(part for part in model.modules() if isinstance(part, once))

    def add(_: nn.Module, arguments: tuple[Tensor]) -> None:
        count[0] += len(arguments[0])

    hook = layer.register_forward_pre_hook(add)
    try:
        yield count
    finally:
        hook.remove()
