"""An ImageNet-style validation folder: one folder per class, images in it."""

from functools import partial
from pathlib import Path

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from xai_lib.core.arguments import check_count
from xai_lib.core.paths import data_path
from xai_lib.zoo import photos
from xai_lib.zoo.image_files import as_shown


class ImageNetFolder(ImageFolder):
    """`ImageFolder` with ImageNet's class indices instead of 0, 1, 2, … in the order
    of the folders' names, and images as they are shown."""

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


def load(path: str | Path, size: int = 224) -> ImageNetFolder:
    """The folder's images, with ImageNet's classes.

    A dataset of pairs (image `[3, size, size]`, ImageNet class index), read one at a
    time: 50,000 images at once would fill 30 GB. Hand it to a `DataLoader`.

    Images are read as by `photos.read`, errors included. So EXIF orientations and
    colour profiles count, which torchvision's `ImageFolder` ignores and with it most
    published accuracies: a few images differ from theirs. Hidden files and folders,
    such as the resource forks `._x.jpg` of macOS, are skipped.

    Args:
        path: its folders are named by WordNet id ("n01440764") or class index ("0").
        size: see `photos.load`.

    Raises:
        FileNotFoundError: no such folder, no class in it, or a class without images.
        ValueError: a folder that names no ImageNet class, or a size below 1.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"image folder {path} does not exist")
    prepare = partial(photos.prepared, size=check_count("size", size))
    return ImageNetFolder(str(path), prepare, loader=as_shown, is_valid_file=is_picture)


def is_picture(path: str | Path) -> bool:
    """Whether a file is an image by its name, and neither it nor its folder hidden."""
    *_, folder, name = Path(path).absolute().parts
    shown = not (name.startswith(".") or is_hidden(folder))
    return shown and name.lower().endswith(IMG_EXTENSIONS)


def is_hidden(folder: str) -> bool:
    """Whether a folder is the system's or a notebook's own, by its name."""
    return folder.startswith(".") or folder == "__MACOSX"
