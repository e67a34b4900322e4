"""Max-sensitivity: how much does a map change when the image hardly does?

Yeh et al., "On the (in)fidelity and sensitivity of explanations" (2019), definition 3,
https://arxiv.org/abs/1901.09392. With E the explainer, and the class held fixed,

    max over ‖δ‖∞ ≤ r of ‖E(x + δ) − E(x)‖ / ‖E(x)‖.

The division, which makes methods of different scales comparable, is Captum's; like its
`sensitivity_max` we take the largest of a few random δ, a lower bound. A low value says
that a map is stable, not that it is right: one that ignores the image has 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from xai_lib.core.arguments import (
    Target,
    check_count,
    check_inputs,
    check_number,
    check_seed,
    check_target,
)
from xai_lib.core.blocks import groups, joined
from xai_lib.core.image_range import stepping_outside
from xai_lib.kernels import philox


def max_sensitivity(
    attribute: Callable[..., Tensor],
    inputs: Tensor,
    target: Target,
    radius: float = 0.02,
    n_samples: int = 10,
    seed: int = 0,
) -> Tensor:
    """The largest relative change of each map, `[N]`, over random δ from [−r, r]^d.

    The defaults are the AISE paper's. All images get the same δ, drawn from the seed,
    so an image's value does not depend on the images beside it. Each call of the
    explainer starts from the same random state, and the global one is restored: what
    an explainer's own sampling adds is not measured, as long as that is seeded or
    comes from torch's global state. Perturbed images may leave [0, 1] by r. A map of
    zeros is divided by 1 instead of its norm.

    Args:
        attribute: an explainer's method, called as attribute(images, target=classes).
        inputs: `[N, C, H, W]`.
        target: the class, an int or a tensor `[N]`. None is refused: the class
            predicted may change with δ, and then another question would be answered.
        radius: r, in input units.
        n_samples: how many δ; 1 + n_samples explanations of each image.
        seed: of δ.

    Raises:
        TypeError, ValueError: a wrong argument, by name.
    """
    check_inputs(inputs)
    classes = check_target(target, len(inputs))
    if classes is None:
        raise TypeError(
            "target must be an int or a tensor [N], got None; fix it, e.g. to "
            "model(inputs).argmax(dim=1)"
        )
    check_number("radius", radius, 0)
    check_count("n_samples", n_samples)
    check_seed(seed)

    def of_group(images: Tensor, target: Tensor) -> Tensor:
        def explained(images: Tensor) -> Tensor:
            outside = stepping_outside(by=radius)
            with outside, torch.random.fork_rng(), torch.enable_grad():
                torch.manual_seed(seed)
                maps = attribute(images, target=target)
            if not isinstance(maps, Tensor):
                raise TypeError(f"attribute must return a tensor, got {type(maps)}")
            return maps.detach().flatten(1)

        here, size = explained(images), images[0].numel()
        norm, largest = here.norm(dim=1), here.new_zeros(len(here))
        for i in range(n_samples):
            delta = philox.uniforms(seed, i, 1, size, device=images.device)
            delta = delta.mul_(radius).to(images.dtype).view(images.shape[1:])
            change = (explained(images + delta) - here).norm(dim=1)
            largest = largest.maximum(change / norm.where(norm > 0, 1))
        return largest

    parts = groups(inputs.detach(), classes)
    return joined(len(inputs), (of_group(*part) for part in parts))
