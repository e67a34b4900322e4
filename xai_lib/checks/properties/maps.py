"""Properties of maps: their form, their numbers, and what these depend on."""

import warnings

import torch
from torch import Tensor

from xai_lib.checks.properties.case import (
    TOLERANCE,
    Case,
    NotApplicable,
    Scores,
    Violation,
    classes,
    difference,
    numbers,
    prop,
    require,
)
from xai_lib.core.blackbox import BlackBox

# Half precision keeps 8 or 11 bits of each query, and a sampler that looks for the
# best place may go elsewhere for the others. How far maps may be from those in single
# precision: this share of their length.
HALF_TOLERANCE = 0.25


@prop("a finite map for each image, of the promised shape")
def _shape(case: Case, x: Tensor) -> None:
    for n, channels in ((1, 1), (3, 3), (2, 4)):
        x = case.inputs(n, channels, *case.size)
        case.expect_maps(case.maps(x), x)


@prop("maps have the dtype of the inputs")
def _dtype(case: Case, x: Tensor) -> None:
    for dtype in (torch.float32, torch.float64):
        got = case.maps(x.to(dtype)).dtype
        require(got == dtype, f"maps are {got}, inputs {dtype}")


@prop("maps lie on the device of the inputs")
def _device(case: Case, x: Tensor) -> None:
    got = case.maps(x).device
    require(got == x.device, f"maps are on {got}, inputs on {x.device}")


@prop("one explainer takes images of several sizes")
def _sizes(case: Case, x: Tensor) -> None:
    (height, width), short = case.size, case.smallest
    # A network with dense layers has one size of images; so a new one for each.
    one = case.needs != "layers"
    explainer = case.explainer(lambda x: case.scores(x)(x)) if one else None

    def maps(x: Tensor) -> Tensor:
        return case.explain(explainer, x) if one else case.maps(x)

    before = maps(x)
    for size in ((width, height), (short, width), (width, short)):
        other = case.inputs(2, 3, *size)
        case.expect_maps(maps(other), other)
    case.expect_equal(maps(x), before, "after images of other sizes")


@prop("the smallest image is explained, and smaller ones are refused")
def _smallest(case: Case, x: Tensor) -> None:
    side = case.smallest
    x = case.inputs(2, 3, side, side)
    case.expect_maps(case.maps(x), x)
    for smaller in sorted({1, side - 1} - {0, side}):
        try:
            case.maps(case.inputs(2, 3, smaller, smaller))
        except ValueError:
            continue
        raise Violation(f"smallest is {side}, but smaller images are explained")


@prop("rows [N, d] are explained, or refused")
def _rows(case: Case, x: Tensor) -> None:
    x = case.inputs(3, 7)
    if case.rows:
        case.expect_maps(case.maps(x), x)
    else:
        case.expect_refused("inputs", case.model(x), x, 0)


@prop("inputs outside [0, 1] are welcome")
def _range(case: Case, x: Tensor) -> None:
    case.expect_maps(case.maps(6 * x - 3), x)


@prop("the layout of the inputs in memory does not matter")
def _layout(case: Case, x: Tensor) -> None:
    expected = case.maps(x)
    turned = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    case.expect_equal(case.maps(turned), expected, "channels last in memory")
    for image in case.maps(x[:1].expand(3, -1, -1, -1)):
        case.expect_equal(image, expected[0], "three images that share their memory")


class InDouble(Scores):
    """A model that answers in double precision, whatever it is asked in."""

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x.double())


@prop("half precision is added up in single precision")
def _half(case: Case, x: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        half = x.to(dtype)
        scores = case.scores(x)
        in_double = scores if case.needs == "layers" else InDouble(*scores)
        maps = case.maps(half, model=case.model(half, in_double))
        case.expect_maps(maps, half)
        require(maps.dtype == dtype, f"maps are {maps.dtype}, inputs {dtype}")
        single = half.float()
        expected = case.maps(single, model=case.model(single, in_double))
        gap = float((maps.float() - expected).norm() / expected.norm())
        words = f"{dtype}: maps differ by {gap:.2g} of their length"
        require(gap <= HALF_TOLERANCE, words)


@prop("a map that is not finite is refused")
def _overflow(case: Case, x: Tensor) -> None:
    x, scores = x.float(), case.scores(x)
    # All answers are finite, but not the sum of some of them.
    huge = scores._replace(last=scores.last * (1e38 / scores.last.abs().max()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the overflow
        for target in range(4):
            try:
                maps = case.maps(x, target, case.model(x, huge))
            except ValueError:
                continue
            case.expect_maps(maps, x)


@prop("same settings, same map")
def _repeatable(case: Case, x: Tensor) -> None:
    explainer = case.explainer(case.model(x))
    first = case.explain(explainer, x)
    case.expect_equal(case.explain(explainer, x), first, "called again")
    case.expect_equal(case.maps(x), first, "a new explainer")


@prop("another seed, another map")
def _seed(case: Case, x: Tensor) -> None:
    if not case.seeded:
        raise NotApplicable("make has no parameter named seed")
    gap = difference(case.maps(x, seed=0), case.maps(x, seed=1))
    require(gap > TOLERANCE, "seeds 0 and 1 give the same map")


@prop("an image gets the map that it gets alone")
def _alone(case: Case, x: Tensor) -> None:
    x, target = case.inputs(17, 3, *case.size), classes(*range(17)) % 4
    together = case.maps(x, target)
    case.expect_maps(together, x)
    for i in (0, 11, 16):
        alone = case.maps(x[i : i + 1], target[i : i + 1])
        case.expect_equal(alone[0], together[i], f"image {i} of 17")
    turned = case.maps(x.flip(0), target.flip(0)).flip(0)
    case.expect_equal(turned, together, "17 images the other way round")


@prop("the black box's batch size does not matter", "queries")
def _batch_size(case: Case, x: Tensor) -> None:
    expected = case.maps(x)
    for size in (1, 7):
        maps = case.maps(x, model=BlackBox(case.model(x), batch_size=size))
        case.expect_equal(maps, expected, f"BlackBox(f, batch_size={size})")


@prop("a constant model has a flat map")
def _constant(case: Case, x: Tensor) -> None:
    scores = case.scores(x)
    bias = numbers(0.2, 0.5, 0.3, 0.1)
    constant = scores._replace(last=torch.zeros_like(scores.last), bias=bias)
    for image in case.maps(x, 1, case.model(x, constant)):
        low, high = float(image.min()), float(image.max())
        words = (
            f"the score is 0.5 everywhere, the map goes from {low:.3g} to {high:.3g}"
        )
        # Where it is zero, rounding has the scale of the score.
        require(high - low <= TOLERANCE * max(0.5, high, -low), words)


@prop("of a linear model, the part that it reads stands out")
def _linear(case: Case, x: Tensor) -> None:
    height, width = case.size
    where = numbers(0).expand(3, 1, height, width).clone()
    where[0, :, : height // 2, width - width // 2 :] = 1  # read by class 0
    where[1, :, height - height // 2 :, : width // 2] = 1  # read by class 1
    means = where.expand(-1, 3, -1, -1).flatten(1)
    means = means / means.sum(dim=1, keepdim=True).clamp_min(1)
    # Linear wherever no number is below -1: the shift is taken back by the bias.
    identity = where.new_zeros(3, 3).fill_diagonal_(1)
    scores = Scores(1.0, means, identity, numbers(-1, -1, 0.9))
    # Image 0 is bright where class 0 looks, image 1 where class 1 does: it scores 1,
    # a bit more than class 2 always gets.
    x = (0.1 + 0.9 * where[:2].expand(-1, 3, -1, -1)).to(x)
    maps = case.maps(x, classes(0, 1), case.model(x, scores)).sum(dim=1)
    for image, region in zip(maps.cpu(), where[:2, 0].bool(), strict=True):
        inside, outside = float(image[region].mean()), float(image[~region].mean())
        words = f"mean {inside:.3g} there, {outside:.3g} elsewhere"
        require(inside > outside + TOLERANCE * float(image.abs().max()), words)
