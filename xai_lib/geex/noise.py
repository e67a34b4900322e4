"""Search noise: the directions in which GEEX looks around an input.

Cai and Wunder, "On gradient-like explanation under a black-box setting", first arXiv
version, section 3. The noise is made of three parts that combine freely:

* **A basis** U. Noise on pixels has none (U = 1). *Resized* noise (GERS) is drawn on
  an s × s mask for each channel and upsampled bilinearly, ε = U z. *Low-frequency*
  noise has the s × s lowest frequencies of the discrete cosine transform instead, and
  is what answers the paper's open question of "a carefully selected mask set". Either
  U acts on rows and columns apart: ε = A z Bᵀ, two matrix products for many masks.
* **Directions** z ~ N(0, 1), independent, or orthogonal within a block.
* **Mirroring**: each ε is used as +ε and as −ε.

**What orthogonal directions need.** The estimate is unbiased for every function as
long as each ε on its own is normal, whatever holds between them. Gram and Schmidt's
directions of normal vectors are uniform on the sphere, but have length 1; a normal
vector has the length |z|, chi-distributed and independent of all directions. So each
direction gets back the length of the vector it came from. (Fixed lengths √d would be
right for linear functions only: they search a sphere, and a slightly different
smoothed function.) Signs do not matter, as −ε is used too.

**How large a block can be.** Orthogonality saves in proportion to block / d (see
`estimator`), so a block has all d directions where a QR decomposition of d × d
numbers is cheap, and at most BLOCK numbers where it is not. For a photograph's
150,528 pixels these are 6 directions, which saves nothing; in a basis of some
hundred cosines it saves nearly everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.arguments import check_choice, check_count
from xai_lib.attribution import chunks, generator

NOISES = ("independent", "mirrored", "orthogonal", "low-frequency")

# Queries per chunk: a few MiB of noise, but enough for a full batch of one image.
CHUNK, SMALLEST, LARGEST = 2**21, 64, 2048
# Numbers in the largest block of orthogonal directions: 4 MiB, a QR of 0.05 s.
BLOCK = 2**20


@dataclass(frozen=True)
class SearchNoise:
    """Noise of unit size for `n_samples` queries of inputs of one shape.

    Iterating gives chunks `[m, *shape]`, float32, on the CPU; all inputs share them.
    The same settings give the same chunks, and memory does not grow with n_samples.
    In a mirrored chunk the second half is minus the first.

    Args:
        noise: "independent"; "mirrored", the paper's; "orthogonal", mirrored and in
            orthogonal blocks; "low-frequency", the same in a basis of cosines.
        shape: of one input, `(C, H, W)` or, without masks, `(d,)`. The channels get
            noise of their own, so that each gets its own derivative.
        n_samples: queries per input; even for mirrored noise, at least 2.
        seed: of the noise.
        mask_size: s, the side of the masks, or how many frequencies per axis; None is
            noise on single pixels.

    Raises:
        TypeError, ValueError: a wrong argument, by name, with the fix.
    """

    noise: str
    shape: tuple[int, ...]
    n_samples: int
    seed: int = 0
    mask_size: int | None = None

    def __post_init__(self) -> None:
        check_search(self.noise, self.n_samples, self.seed, self.mask_size)
        size = self.mask_size
        if size is not None and len(self.shape) != 3:
            raise ValueError(
                "mask_size is for images [N, C, H, W]; for inputs of shape "
                f"{['N', *self.shape]} use None"
            )
        if size is not None and size > min(self.shape[1:]):
            raise ValueError(
                f"mask_size must be at most the image's side, got {size} for images of "
                f"{self.shape[1]} x {self.shape[2]} pixels"
            )

    @property
    def mirrored(self) -> bool:
        return self.noise != "independent"

    @property
    def n_directions(self) -> int:
        """How many ε are drawn: one per query, or one per pair."""
        return self.n_samples // 2 if self.mirrored else self.n_samples

    @property
    def dimension(self) -> int:
        """Of z: the number of pixel values, or of mask cells."""
        if self.mask_size is None:
            return math.prod(self.shape)
        return self.shape[0] * self.mask_size**2

    @property
    def block(self) -> int:
        """How many successive directions are orthogonal to each other."""
        if self.noise in ("independent", "mirrored"):
            return 1
        return min(self.dimension, max(1, BLOCK // self.dimension))

    @property
    def gain(self) -> float:
        """ρ, the number of pixels per mask cell: by how much the score-function mean
        exceeds the gradient, as E[ε εᵀ] = U Uᵀ has rows that sum to ρ."""
        if self.mask_size is None:
            return 1.0
        return math.prod(self.shape[1:]) / self.mask_size**2

    def __len__(self) -> int:
        """The number of chunks."""
        return sum(1 for rows in self._draws() for _ in chunks(rows, self._per_chunk))

    def __iter__(self) -> Iterator[Tensor]:
        rng = generator(self.seed)
        basis = None if self.mask_size is None else self._basis()
        for rows in self._draws():
            z = torch.randn(rows, self.dimension, generator=rng)
            if self.block > 1:
                z = torch.cat([orthogonalised(part) for part in z.split(self.block)])
            for part in z.split(self._per_chunk):
                if basis is None:
                    e = part.reshape(-1, *self.shape)
                else:
                    masks = part.reshape(-1, self.shape[0], *2 * [self.mask_size])
                    e = basis[0] @ masks @ basis[1].T
                yield torch.cat([e, -e]) if self.mirrored else e

    @property
    def _per_chunk(self) -> int:
        """Directions in a chunk; like all sizes here it depends on the shape alone."""
        queries = min(LARGEST, max(SMALLEST, CHUNK // math.prod(self.shape)))
        return queries // 2 if self.mirrored else queries

    def _draws(self) -> Iterator[int]:
        """How many directions to draw at once: whole blocks, about a chunk of them."""
        rows = self.block * max(1, self._per_chunk // self.block)
        return chunks(self.n_directions, rows)

    def _basis(self) -> tuple[Tensor, Tensor]:
        """A and B, `[H, s]` and `[W, s]`."""
        of = cosines if self.noise == "low-frequency" else interpolation
        assert self.mask_size is not None
        return of(self.mask_size, self.shape[1]), of(self.mask_size, self.shape[2])


def check_search(noise: str, n_samples: int, seed: int, mask_size: int | None) -> None:
    """What can be said about settings of `SearchNoise` before an input is seen."""
    check_choice("noise", noise, NOISES)
    check_count("n_samples", n_samples, at_least=2)
    if noise != "independent" and n_samples % 2:
        raise ValueError(
            f"n_samples must be even for {noise} noise, which asks in pairs; got "
            f"{n_samples}, use {n_samples - 1} or {n_samples + 1}"
        )
    check_count("seed", seed, at_least=0)
    if mask_size is not None:
        check_count("mask_size", mask_size)
    elif noise == "low-frequency":
        raise ValueError(
            "mask_size must be the number of frequencies per axis for low-frequency "
            "noise, got None"
        )


def search_noise(
    noise: str,
    shape: tuple[int, ...],
    n_samples: int,
    seed: int,
    mask_size: int | None = None,
) -> Iterator[Tensor]:
    """The chunks of `SearchNoise`, one after the other."""
    return iter(SearchNoise(noise, tuple(shape), n_samples, seed, mask_size))


def orthogonalised(z: Tensor) -> Tensor:
    """Normal vectors `[b, d]`, b <= d, turned orthogonal, each keeping its length."""
    directions = torch.linalg.qr(z.T).Q.T
    return (directions * z.norm(dim=1, keepdim=True)).contiguous()


def interpolation(mask_size: int, size: int) -> Tensor:
    """Bilinear upsampling of one axis, `[size, mask_size]`; its rows sum to 1."""
    cells = torch.eye(mask_size)[None]
    return F.interpolate(cells, size=size, mode="linear")[0].T


def cosines(mask_size: int, size: int) -> Tensor:
    """The lowest `mask_size` frequencies of one axis (DCT-II), `[size, mask_size]`.

    Orthogonal columns of squared length size / mask_size, so that noise on them has
    variance 1 in the mean over the pixels.
    """
    pixels = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    waves = torch.cos(pixels[:, None] * torch.arange(mask_size, dtype=torch.float64))
    waves[:, 1:] *= math.sqrt(2)
    return (waves / math.sqrt(mask_size)).float()
