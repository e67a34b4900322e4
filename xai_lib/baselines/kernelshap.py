"""KernelSHAP: Shapley values of superpixels, from one weighted least-squares fit.

Lundberg and Lee, "A unified approach to interpreting model predictions" (2017),
section 4.1, https://arxiv.org/abs/1705.07874. The parts of an image play a game: v(z)
is the score of the image that shows the parts with z_i = 1 and the baseline elsewhere.
The Shapley values φ of the M parts solve (their theorem 2)

    min_φ  Σ_z π(z) (v(z) − v(0) − zᵀφ)²   subject to   1ᵀφ = v(1) − v(0),

    π(z) = (M − 1) / (C(M, s) s (M − s)),   s = |z|,

the sum going over all z but none and all. For a sample, s is drawn with a probability
proportional to C(M, s) π(z), then s parts at random; so z comes with probability ∝ π,
and each sample counts alike. With A = Σ zzᵀ, b = Σ z (v(z) − v(0)) and a multiplier λ,

    [ A  1 ] [ φ ]   [ b           ]
    [ 1ᵀ 0 ] [ λ ] = [ v(1) − v(0) ].

Each sample comes with its complement 1 − z (Covert and Lee, 2021,
https://arxiv.org/abs/2012.01536): what is even around z = 1/2 then cancels, and a game
in which parts act together at most in twos is solved without an error.

Captum's KernelShap does the same for one class and without complements. This one has
all classes from one set of queries, as A and b are sums over samples.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from xai_lib.baselines.segments import CHUNK, Score, SegmentAttribution
from xai_lib.core.arguments import check_count
from xai_lib.core.blackbox import keeping
from xai_lib.kernels import philox


class KernelSHAP(SegmentAttribution):
    """KernelSHAP on superpixels (Lundberg and Lee, 2017), as maps `[N, 1, H, W]`.

    All pixels of a superpixel share its value. The values of a map's superpixels sum
    to f_t(x) − f_t(baseline). The AISE paper says no more about its SHAP-8000 than the
    number of samples; about 50 superpixels of SLIC are what the `shap` package takes
    in its example for images. It paints hidden ones white; here they show the baseline.

    Args:
        forward_func: callable from images to scores `[N, K]`, or a `BlackBox`.
        n_samples: queries per image, the whole image and the baseline among them; at
            least twice as many as there are superpixels.
        n_segments: superpixels to aim at; SLIC may find some more or fewer.
        baselines: what a hidden superpixel shows, a number or an image `[C, H, W]`.
        seed: of the samples; superpixels are not random.
        feature_mask: segments in place of superpixels, the same for all images: the
            number of each pixel's segment, integers `[H, W]` or `[1, 1, H, W]`.
    """

    def __init__(
        self,
        forward_func: Callable,
        n_samples: int = 8000,
        n_segments: int = 50,
        baselines: float | Tensor = 0.0,
        seed: int = 0,
        feature_mask: Tensor | None = None,
    ) -> None:
        check_count("n_samples", n_samples, at_least=4)
        super().__init__(
            forward_func, n_samples, n_segments, baselines, feature_mask, seed
        )

    def attribute_all(self, inputs: Tensor, *, show_progress: bool = False) -> Tensor:
        """The maps of all K classes, `[N, K, H, W]`, from one set of queries."""
        return self._of_all_classes(
            inputs, lambda x: self._maps(x, None, show_progress)
        )

    def _values(self, v: Score, m: int, bar: Callable[..., Iterable[Any]]) -> Tensor:
        """The Shapley values of the game v of m parts."""
        if m < 2:
            raise ValueError(
                "inputs must have at least two superpixels each, and SLIC finds one; "
                "scale them to about [0, 1], or raise n_segments"
            )
        if self.n_samples < 2 * m:  # a sample and its complement tell one thing
            raise ValueError(
                f"n_samples must be at least twice the superpixels of an image, "
                f"{2 * m} here, got {self.n_samples}"
            )
        none = torch.zeros(1, m, dtype=torch.bool, device="cpu")
        v_none, v_all = v(torch.cat([none, ~none]))
        system = none.new_zeros(m + 1, m + 1, dtype=torch.float64)
        system[m, :m] = system[:m, m] = 1
        right = system.new_zeros(m + 1, len(v_all))
        right[m] = v_all - v_none

        def values() -> Tensor:
            # Of several solutions, which a small sample may leave, the smallest.
            return torch.linalg.lstsq(system, right, driver="gelsd").solution[:m]

        samples = coalitions(m, self.n_samples - 2, self.seed)
        with keeping(values):
            for z in bar(samples, total=-(-(self.n_samples - 2) // CHUNK)):
                # Divided by n, which leaves φ as it is and keeps all numbers near 1.
                weighted = z.double().T / self.n_samples
                answers = v(z) - v_none
                system[:m, :m] += weighted @ z.double()
                right[:m] += weighted @ answers
        return values()


def coalitions(m: int, n: int, seed: int) -> Iterator[Tensor]:
    """Yield n samples z ∝ π(z) of m parts in chunks `[·, m]`, bool.

    The second half of a chunk holds the complements of the first.
    """
    sizes = torch.arange(1, m, dtype=torch.float64, device="cpu")
    below = (1 / (sizes * (m - sizes))).cumsum(0)  # of the probabilities, unscaled
    for start in range(0, n, CHUNK):
        count = min(CHUNK, n - start)
        place = seed, start, -(-count // 2)
        share = (philox.uniforms(*place, 1)[:, 0].double() + 1) / 2
        size = 1 + torch.searchsorted(below[:-1], share * below[-1], right=True)
        order = philox.uniforms(*place, m, stream=1).argsort(dim=1, stable=True)
        shown = torch.arange(m, device="cpu") < size[:, None]
        z = torch.zeros_like(shown).scatter_(1, order, shown)
        yield torch.cat([z, ~z])[:count]
