"""An image and the objects in it, as the pointing game needs them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DIFFICULT_AREA = 0.25


class Annotated(NamedTuple):
    """One image with k objects of K classes."""

    image: Tensor
    """Float32 `[1, C, H, W]` in [0, 1]."""
    boxes: Tensor
    """Float32 `[k, 4]`: the edges x0, y0, x1, y1 in pixels. A box around the pixel
    columns 3 and 4 has x0 = 3 and x1 = 5."""
    classes: Tensor
    """Int64 `[k]`."""
    masks: Tensor
    """Bool `[k, H, W]`: the pixels of each object, or of its box if that is all."""
    set_aside: Tensor
    """Bool `[k]`: objects by which nobody is judged; VOC calls them difficult."""
    categories: tuple[str, ...]
    """The K class names."""

    @property
    def labels(self) -> Tensor:
        """Multi-hot, bool `[K]`: the classes that are in the image."""
        found = torch.zeros(len(self.categories), dtype=torch.bool, device="cpu")
        found[self.classes] = True
        return found

    def region(self, target: int) -> Tensor:
        """The pixels of all objects of class `target`: bool `[H, W]`.

        Raises:
            ValueError: no such object.
        """
        return self.masks[self._objects(target)].any(dim=0)

    def judged(self, target: int) -> bool:
        """Whether an object of class `target` is not set aside.

        Raises:
            ValueError: no such object.
        """
        return not bool(self.set_aside[self._objects(target)].all())

    def difficult(self, target: int) -> bool:
        """Whether the pair belongs to the pointing game's difficult subset.

        As Zhang et al. (2016) define it, whose list TorchRay uses: the objects of the
        class cover less than a quarter of the image, and another class is present.

        Raises:
            ValueError: no such object.
        """
        area = float(self.region(target).double().mean())
        return area < DIFFICULT_AREA and int(self.labels.sum()) > 1

    def _objects(self, target: int) -> Tensor:
        found = self.classes == target
        if not bool(found.any()):
            raise ValueError(f"the image has no object of class {target}")
        return found
