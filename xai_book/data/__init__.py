"""The papers' own data, which nobody else needs, and the networks fine-tuned for them.

`voc.load()`, `coco.load(path)`, `coco_animals.load()`, `imagenet_folder.load(path)`,
`torchray.load("torchray_vgg16_voc")`; `list()` prints what the files are.
"""


def list() -> None:
    """Print name, role, source, size, licence and supply, as `xai_lib.zoo.list`."""
    from xai_book.data import coco, torchray, voc
    from xai_lib.zoo.listing import table

    print(table(row for part in (torchray, voc, coco) for row in part.rows()))
