"""The dataset behind `photos.folder`, apart because torchvision is needed for it."""

from __future__ import annotations

from xai_lib.extras import extra
from xai_lib.paths import data_path

with extra("book"):
    from torchvision.datasets import ImageFolder


class ImageNetFolder(ImageFolder):
    """`ImageFolder` with ImageNet's class indices instead of 0, 1, 2, … in the order
    of the folders' names."""

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        ids = data_path("imagenet_wnids.txt").read_text().split()
        known = {name: index for index, name in enumerate(ids)}
        known |= {str(index): index for index in range(len(ids))}
        classes, _ = super().find_classes(directory)
        for name in classes:
            if name not in known:
                raise ValueError(
                    f"folder {name!r} in {directory} names no ImageNet class; expected "
                    "a WordNet id such as 'n01440764' or an index from 0 to 999"
                )
        return classes, {name: known[name] for name in classes}
