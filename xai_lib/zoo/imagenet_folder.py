"""The dataset behind `photos.folder`, apart because torchvision is needed for it."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image
from torch import Tensor

from xai_lib.core.extras import extra
from xai_lib.core.paths import data_path
from xai_lib.zoo.image_files import as_shown, is_hidden, is_picture

with extra("book"):
    from torchvision.datasets import ImageFolder


class ImageNetFolder(ImageFolder):
    """`ImageFolder` with ImageNet's class indices instead of 0, 1, 2, … in the order
    of the folders' names, and images as they are shown."""

    def __init__(self, root: str, transform: Callable[[Image.Image], Tensor]) -> None:
        super().__init__(root, transform, loader=as_shown, is_valid_file=is_picture)

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        ids = data_path("imagenet_wnids.txt").read_text().split()
        known = {name: index for index, name in enumerate(ids)}
        known |= {str(index): index for index in range(len(ids))}
        classes, _ = super().find_classes(directory)
        classes = [name for name in classes if not is_hidden(name)]
        if not classes:
            raise FileNotFoundError(f"{directory} has no folder for a class")
        for name in classes:
            if name not in known:
                raise ValueError(
                    f"folder {name!r} in {directory} names no ImageNet class; expected "
                    "a WordNet id such as 'n01440764' or an index from 0 to 999"
                )
        return classes, {name: known[name] for name in classes}
