"""Search noise: the directions in which GEEX looks around an input.

Cai and Wunder, "On gradient-like explanation under a black-box setting", first arXiv
version, section 3. Noise is made of three parts that combine freely.

**Directions** z of independent normal numbers, N(0, 1), or orthogonal to each other
within a block. An estimate is unbiased, whatever the function, if each z by itself is
normal; how they relate to each other is free. Gram and Schmidt make directions of
normal vectors that are uniform on the sphere; a normal vector is such a direction
times an independent, chi-distributed length. So each direction gets the length of the
vector it was made from. (With the fixed length √d the search would be confined to a
sphere: right for linear functions only.)

**Mirroring**: each direction is asked as +z and as −z.

**A basis** U, so that ε = U z, the same for each colour channel. The estimate then
converges to U Uᵀ ∇f_U, where f_U is f smoothed by this noise (see `estimator`).

* Pixels: U = 1.
* Resized masks (GERS): z has s × s cells and U upsamples bilinearly, as in the paper.
  Its rows sum to 1, those of U Uᵀ to ρ = HW / s², the pixels per cell: the estimate is
  ρ times a local mean of the gradient, so it is divided by ρ (`gain`). The noise itself
  is not renormalised: σ is its standard deviation where a cell has its centre, and
  upsampling leaves on average 4/9 of the variance in between. Another constant would
  be another σ, and one per pixel would break the sums of the rows.
* Low frequencies: U has the s × s lowest frequencies of the discrete cosine transform,
  orthonormal. This is the noise on pixels less its high frequencies: along each of the
  s² directions it has the standard deviation σ that noise on pixels has along all HW.
  U Uᵀ is a projection, so the estimate is the part of the gradient in these
  frequencies. It answers the paper's open question of "a carefully selected mask set":
  the fewer directions there are, the fewer queries see them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from xai_lib.core.arguments import check_choice, check_count, check_seed
from xai_lib.core.attribution import DRAWN
from xai_lib.core.blocks import at_once
from xai_lib.kernels import kernels_run_on, philox, search

NOISES = ("independent", "mirrored", "orthogonal", "low-frequency")

# Numbers in a chunk of noise, 8 MiB, and the fewest and most queries that it is for:
# enough for a full batch of one image, and no more than stays cheap to keep.
CHUNK, FEWEST, MOST = 2**21, 64, 2048
# Numbers in a block of orthogonal directions: all 784 of a digit, whose QR costs as
# much as some thousand queries of a small network, once for all images.
BLOCK = 2**20


@dataclass(frozen=True)
class SearchNoise:
    """ε for `n_samples` queries of inputs of one shape, to be multiplied by σ.

    A direction is a function of the seed and its number (`kernels.philox`): the same
    on every device, of independent normal numbers equal to the bit. Iterating gives
    chunks `[m, *shape]`, float32, on the CPU; all inputs share them. The second half of
    a mirrored chunk is minus its first half. Memory does not grow with n_samples.

    Orthogonality saves queries in proportion to block / d (see `estimator`), so a block
    has all d directions where these have at most BLOCK numbers, else as many as fit:
    6 of the 150,528 of a photograph, which saves nothing, and all 588 of 14 × 14
    cosines on it, which saves nearly everything. What does not fill a block is a
    smaller block, and as unbiased.

    Args:
        noise: "independent"; "mirrored", the paper's; "orthogonal", in blocks and
            mirrored; "low-frequency", the same in a basis of cosines.
        shape: of one input, `(C, H, W)`, or `(d,)` if there are no masks. Channels have
            noise of their own, so that each gets a derivative of its own.
        n_samples: queries per input, at least 2, and even for mirrored noise.
        seed: of the noise.
        mask_size: s, cells or frequencies per axis; None is noise on single pixels.

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
        if self.mask_size is None:
            return
        if len(self.shape) != 3:
            raise ValueError(
                f"mask_size must be None for inputs [N, d], which are no images; got "
                f"{self.mask_size} for d = {self.shape[0]}"
            )
        if self.mask_size > min(self.shape[1:]):
            raise ValueError(
                f"mask_size must be at most the image's side, got {self.mask_size} for "
                f"images of {self.shape[1]} x {self.shape[2]} pixels"
            )

    @property
    def mirrored(self) -> bool:
        return self.noise != "independent"

    @property
    def n_directions(self) -> int:
        """How many z there are: one per query, or one per pair of queries."""
        return self.n_samples // 2 if self.mirrored else self.n_samples

    @property
    def dimension(self) -> int:
        """d, the numbers in z."""
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
        """The sum of a row of U Uᵀ, by which an estimate has to be divided."""
        if self.mask_size is None or self.noise == "low-frequency":
            return 1.0
        return math.prod(self.shape[1:]) / self.mask_size**2

    def __len__(self) -> int:
        """The number of groups."""
        if not self.mirrored:
            return -(-self.n_directions // self._asked_at_once)
        drawn, each = self._drawn_at_once, self._per_chunk
        whole, rest = divmod(self.n_directions, drawn)
        return whole * -(-drawn // each) - (-rest // each)

    def __iter__(self) -> Iterator[Tensor]:
        like = torch.empty(0, **DRAWN)
        for group in self.groups(like):
            for chunk in group:
                yield torch.cat([chunk.e, -chunk.e]) if self.mirrored else chunk.e

    def groups(self, like: Tensor) -> Iterator[list[Chunk]]:
        """The chunks whose answers are needed together, made like `like`.

        A mirrored chunk is a group by itself. Of independent noise it takes all that an
        estimate has a mean of.
        """
        if not self.mirrored:
            for group in spans(0, self.n_directions, self._asked_at_once):
                yield [Chunk(self, *s, like) for s in spans(*group, self._per_chunk)]
            return
        for first, count in spans(0, self.n_directions, self._drawn_at_once):
            z = None
            if self.block > 1:  # too dear to be made again, and few numbers
                z = self.normals(first, count, like.device)
                z = orthogonalised(z, self.block).to(like.dtype)
            for start, n in spans(first, count, self._per_chunk):
                own = None if z is None else z[start - first :][:n]
                yield [Chunk(self, start, n, like, own)]

    def normals(self, first: int, count: int, device: torch.device) -> Tensor:
        """Independent directions, float32 `[count, d]`."""
        return philox.normals(self.seed, first, count, self.dimension, device=device)

    def spread(self, z: Tensor) -> Tensor:
        """U z of each row of `[n, d]`: `[n, *shape]`."""
        if self.mask_size is None:
            return z.view(-1, *self.shape)
        s, of = self.mask_size, interpolation
        if self.noise == "low-frequency":
            of = cosines
        rows, columns = (of(s, size, z.device).to(z.dtype) for size in self.shape[1:])
        return rows @ z.view(-1, self.shape[0], s, s) @ columns.T

    @property
    def _asked_at_once(self) -> int:
        """Directions that share a mean. As any size here, it depends on the shape."""
        queries = min(MOST, max(FEWEST, CHUNK // math.prod(self.shape)))
        return queries // 2 if self.mirrored else queries

    @property
    def _per_chunk(self) -> int:
        """Directions in a chunk: fewer, if memory demands it."""
        held = at_once(math.prod(self.shape) * (2 if self.mirrored else 1))
        return min(self._asked_at_once, held)

    @property
    def _drawn_at_once(self) -> int:
        """Directions that are made orthogonal at once: whole blocks."""
        most = min(self._asked_at_once, at_once(self.dimension))
        return self.block * max(1, most // self.block)


class Chunk:
    """Some successive directions of a search, made where they are used.

    On an NVIDIA GPU a kernel makes noise on pixels as it writes a query, and again as
    it adds up the answers. Elsewhere ε stays in memory in between, which is faster.
    """

    def __init__(
        self,
        search: SearchNoise,
        first: int,
        count: int,
        like: Tensor,
        z: Tensor | None = None,
    ) -> None:
        self.search, self.first, self.count, self.like = search, first, count, like
        self.in_kernels = (
            search.mask_size is None
            and z is None
            and like.dtype == torch.float32
            and kernels_run_on(like.device)
        )
        if z is not None:
            self.z = z

    @cached_property
    def z(self) -> Tensor:
        """z `[count, d]`."""
        place = self.first, self.count, self.like.device
        return self.search.normals(*place).to(self.like.dtype)

    @cached_property
    def e(self) -> Tensor:
        """ε `[count, *shape]`."""
        return self.search.spread(self.z)

    def forget(self) -> None:
        """Make them again when they are needed again."""
        for name in ("z", "e"):
            vars(self).pop(name, None)

    def alpha(self, n_steps: int | None) -> Tensor:
        """Of direction i among n, (⌊i k / n⌋ + ½) / k; k is n if it is None."""
        n, last = self.search.n_directions, self.first + self.count
        k = n_steps or n
        i = torch.arange(self.first, last, device=self.like.device)
        return ((i * k // n).float() + 0.5) / k

    def queries(
        self,
        inputs: Tensor,
        stdevs: float,
        versions: slice,
        path: tuple[Tensor, Tensor] | None,
        memory: list[Tensor],
    ) -> Tensor:
        """Some versions of x + σε, then x − σε: `[N, versions, *shape]`.

        Args:
            versions: of all of them, or of one sign.
            path: for iGEEX α `[count]` and x', see `kernels.search`.
            memory: one tensor, which blocks of queries are written into, one after the
                other: pages that were never used cost more than the sum.
        """
        n = versions.stop - versions.start
        minus, mirrored = versions.start >= self.count, n > self.count
        start = versions.start - minus * self.count
        own = slice(start, start + (self.count if mirrored else n))
        stdevs, path = -stdevs if minus else stdevs, path and (path[0][own], path[1])
        if self.in_kernels:
            place = self.search.seed, self.first + start, own.stop - start
            return search.queries(inputs, stdevs, mirrored, *place, path)
        size = len(inputs) * n * inputs[0].numel()
        if len(memory[0]) < size:
            memory[0] = inputs.new_empty(size)
        out = memory[0][:size].view(len(inputs), n, *self.search.shape)
        return search.around(inputs, stdevs, mirrored, self.e[own], path, out)

    def add(
        self, total: Tensor, weights: Tensor, squared: bool = False, of_z: bool = False
    ) -> None:
        """Add Σ w ε to `total` `[R, D]`, or Σ w ε², or Σ w z; weights `[R, count]`."""
        if self.in_kernels:
            place = total.shape[1], self.search.seed, self.first
            total += search.weighted_noise(weights, *place, squared)
            return
        e = self.z if of_z else self.e.flatten(1)
        total.addmm_(weights, e.square() if squared else e)


def spans(first: int, count: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut (first, count) into parts of at most `most`, likewise."""
    for start in range(first, first + count, most):
        yield start, min(most, first + count - start)


def check_search(noise: str, n_samples: int, seed: int, mask_size: int | None) -> None:
    """What `SearchNoise` refuses before it knows the shape of an input."""
    check_choice("noise", noise, NOISES)
    check_count("n_samples", n_samples, at_least=2)
    if noise != "independent" and n_samples % 2:
        raise ValueError(
            f"n_samples must be even for {noise} noise, which asks in pairs; got "
            f"{n_samples}, use {n_samples - 1} or {n_samples + 1}"
        )
    check_seed(seed)
    if mask_size is not None:
        check_count("mask_size", mask_size)
    elif noise == "low-frequency":
        raise ValueError(
            "mask_size must be the number of frequencies per axis for low-frequency "
            "noise, got None; GEEX has no masks, use GERS"
        )


def search_noise(
    noise: str,
    shape: tuple[int, ...],
    n_samples: int,
    seed: int,
    mask_size: int | None = None,
) -> Iterator[Tensor]:
    """The chunks of a `SearchNoise`, one after the other."""
    return iter(SearchNoise(noise, tuple(shape), n_samples, seed, mask_size))


def orthogonalised(z: Tensor, block: int) -> Tensor:
    """Vectors `[n, d]`, turned orthogonal within blocks of them, at their lengths."""
    whole = len(z) - len(z) % block
    blocks = [z[:whole].view(-1, block, z.shape[1]), z[None, whole:]]
    return torch.cat([_gram_schmidt(b).flatten(0, 1) for b in blocks if b.numel()])


def _gram_schmidt(z: Tensor) -> Tensor:
    """Many blocks at once, `[blocks, b, d]` with b <= d."""
    q, r = torch.linalg.qr(z.mT)
    # Gram and Schmidt's R has a positive diagonal, LAPACK's has any signs.
    lengths = torch.linalg.vector_norm(z, dim=2).copysign(r.diagonal(dim1=1, dim2=2))
    return q.mT * lengths[..., None]


@lru_cache(maxsize=16)
def interpolation(mask_size: int, size: int, device: Any = "cpu") -> Tensor:
    """Bilinear upsampling along one axis, `[size, mask_size]`; rows sum to 1."""
    cells = torch.eye(mask_size, dtype=torch.float32, device="cpu")[None]
    return F.interpolate(cells, size=size, mode="linear")[0].T.to(device)


@lru_cache(maxsize=16)
def cosines(mask_size: int, size: int, device: Any = "cpu") -> Tensor:
    """The lowest frequencies of one axis (DCT-II), orthonormal: `[size, mask_size]`."""
    of_pixels = torch.arange(size, dtype=torch.float64, device="cpu")
    frequencies = torch.arange(mask_size, dtype=torch.float64, device="cpu")
    places = (of_pixels + 0.5) * (math.pi / size)
    waves = torch.cos(places[:, None] * frequencies)
    return (waves / torch.linalg.vector_norm(waves, dim=0)).float().to(device)
