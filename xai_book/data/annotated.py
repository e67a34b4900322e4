"""An image and the objects in it, as the pointing game needs them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, overload

import torch
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from xai_lib.zoo.image_files import in_srgb, stored
from xai_lib.zoo.scenes import Scenes

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

        It, `judged` and `difficult` raise a ValueError if there is no such object.
        """
        return self.masks[self._objects(target)].any(dim=0)

    def judged(self, target: int) -> bool:
        """Whether an object of class `target` is not set aside."""
        return not bool(self.set_aside[self._objects(target)].all())

    def difficult(self, target: int) -> bool:
        """Whether the pair belongs to the pointing game's difficult subset.

        As Zhang et al. (2016) define it, whose list TorchRay uses: the objects of the
        class cover less than a quarter of the image, and another class is present.
        """
        area = float(self.region(target).double().mean())
        return area < DIFFICULT_AREA and int(self.labels.sum()) > 1

    def _objects(self, target: int) -> Tensor:
        found = self.classes == target
        if not bool(found.any()):
            raise ValueError(f"the image has no object of class {target}")
        return found


def of_scene(scenes: Scenes, image: int) -> Annotated:
    """Scene number `image`, in the form in which VOC and COCO come too."""
    classes = scenes.classes[image]
    nobody = torch.zeros_like(classes, dtype=torch.bool)
    found = (scenes.boxes[image], classes, scenes.masks[image], nobody)
    return Annotated(scenes.images[image][None], *found, scenes.categories)


class AnnotatedImages(Sequence[Annotated], ABC):
    """Images, each read when it is asked for; they have their own sizes.

    Attributes:
        names: of the images.
    """

    names: tuple[str, ...]

    @abstractmethod
    def _read(self, index: int) -> Annotated:
        """Image number `index`."""

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Annotated: ...
    @overload
    def __getitem__(self, index: slice) -> list[Annotated]: ...
    def __getitem__(self, index: int | slice) -> Annotated | list[Annotated]:
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        return self._read(index)


def read_image(path: Path, told: tuple[int, int] | None) -> Tensor:
    """An annotated image as float32 `[1, 3, H, W]` in [0, 1].

    Not turned by its EXIF orientation, since COCO and VOC count the pixels as stored.

    Args:
        path: of the file.
        told: its width and height by the annotation, None if that is silent.

    Raises:
        FileNotFoundError, ValueError: as `photos.read`; another size than told.
    """
    image = in_srgb(stored(path), path)
    if told not in (None, image.size):
        raise ValueError(
            "{} has {} x {} pixels, its annotation says {} x {}; annotate it again if "
            "it was scaled, cropped or turned since (an EXIF orientation is not "
            "applied)".format(path, *image.size, *told)
        )
    return to_tensor(image)[None]


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Let errors say where they were met: a file, and an object in it.

    Raises:
        ValueError: also for what is missing or of another type than expected.
    """
    try:
        yield
    except (SyntaxError, ValueError) as error:  # of XML, the former
        raise ValueError(f"{where}: {error}") from error
    except KeyError as error:
        raise ValueError(f"{where}: {error} is missing") from error
    except (AttributeError, IndexError, OverflowError, TypeError) as error:
        raise ValueError(f"{where} is not as expected: {error}") from error
