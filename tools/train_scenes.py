"""Train the scenes' classifier and detector on generated scenes.

    python tools/train_scenes.py --fashion-mnist FOLDER

FOLDER holds Fashion-MNIST's four gzipped IDX files; only its training images go into
the training scenes. Tested on scenes of the packaged articles, which are test images.
Writes `data/weights/scenes_*.safetensors` and, into `training.json` beside them, what
was measured. The seed fixes the result up to the rounding of one machine's arithmetic.
"""

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torchvision.ops import box_iou, generalized_box_iou_loss
from tqdm import tqdm

from train_digits import DATA, SEED, read_idx
from xai_lib.core.detection import Detection
from xai_lib.zoo import models, scenes
from xai_lib.zoo.detectors import SceneDetector
from xai_lib.zoo.digits import Digits
from xai_lib.zoo.scene_networks import STRIDE, CentreNetwork, boxes_around
from xai_lib.zoo.scenes import Scenes

BATCH = 64
# Black backgrounds too: methods that keep a part of an image make the rest black.
CLUTTER = (0.0, 0.25, 0.5, 0.75)
SCENES_PER_CLUTTER = 4000
TEST_SCENES = 1000
# No other part of the book draws scenes from this seed.
TEST_SEED = 20_071_007


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fashion-mnist", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--only", choices=["classifier", "detector"])
    chosen = parser.parse_args()
    # The result would depend on the number of threads.
    torch.set_num_threads(1)
    train = training_scenes(chosen.fashion_mnist)
    test = scenes.make(TEST_SCENES, seed=TEST_SEED)
    if chosen.only != "detector":
        record("scenes_classifier", train_classifier(train, test))
    if chosen.only != "classifier":
        record("scenes_detector", train_detector(train, test))


def training_scenes(folder: Path) -> list[Scenes]:
    """A set of scenes for each strength of clutter, images as uint8."""
    images, labels = (torch.from_numpy(a.copy()) for a in read_idx(folder, "train"))
    articles = Digits(
        images[:, None].float() / 255,
        labels.long(),
        models.load("cnn_fashion_mnist").categories,
        "Fashion-MNIST's training images",
        "MIT",
    )
    made = []
    for number, clutter in enumerate(tqdm(CLUTTER, desc="scenes")):
        part = scenes.make(
            SCENES_PER_CLUTTER,
            seed=SEED + number,
            sides=(0.15, 0.5),
            clutter=clutter,
            articles=articles,
        )
        made.append(part._replace(images=(part.images * 255).round().byte()))
    return made


def train_classifier(train: list[Scenes], test: Scenes) -> dict:
    torch.manual_seed(SEED)
    model = models.load("scenes_classifier", pretrained=False)
    labels = torch.cat([part.labels for part in train]).float()

    def loss(images: Tensor, chosen: Tensor, mirrored: bool) -> Tensor:
        return F.binary_cross_entropy_with_logits(model(images), labels[chosen])

    fit(model.network, train, loss, epochs=10)
    save("scenes_classifier", model.network)

    probabilities = torch.cat(
        [model(part).sigmoid() for part in test.images.split(BATCH)]
    )
    precision = average_precision_score(test.labels, probabilities, average=None)
    confident = probabilities[test.labels] >= 0.5
    return {
        "mean_average_precision": float(precision.mean()),
        "average_precision": named(precision),
        "present_classes_with_probability_of_half": float(confident.double().mean()),
    }


def train_detector(train: list[Scenes], test: Scenes) -> dict:
    torch.manual_seed(SEED)
    network = CentreNetwork()
    detector = SceneDetector(network)
    start_from(network, load_file(weights("scenes_classifier")))
    boxes = [b for part in train for b in part.boxes]
    classes = [c for part in train for c in part.classes]

    def loss(images: Tensor, chosen: Tensor, mirrored: bool) -> Tensor:
        size = images.shape[-1]
        wanted = [boxes[i] for i in chosen]
        if mirrored:
            wanted = [
                torch.stack([size - b[:, 2], b[:, 1], size - b[:, 0], b[:, 3]], dim=1)
                for b in wanted
            ]
        maps = detector.maps(images)
        return centre_loss(maps, wanted, [classes[i] for i in chosen])

    fit(network, train, loss, epochs=4)
    save("scenes_detector", network)

    found = [d for part in test.images.split(BATCH) for d in detector(part)]
    precision = detection_average_precision(found, test)
    return {
        "mean_average_precision_at_iou_50": float(precision.mean()),
        "average_precision_at_iou_50": named(precision),
    }


def fit(
    network: nn.Module,
    train: list[Scenes],
    loss_of: Callable[[Tensor, Tensor, bool], Tensor],
    epochs: int,
) -> None:
    """Minimise `loss_of(images, which scenes, mirrored)`; half of the batches are
    mirrored, as clothes have no preferred side."""
    images = torch.cat([part.images for part in train])
    network.train().requires_grad_(True)
    # Layout only: twice as fast on a CPU.
    network.to(memory_format=torch.channels_last)
    batches = len(images) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=4e-3, total_steps=epochs * batches
    )
    bar = tqdm(total=epochs * batches, desc=type(network).__name__, mininterval=10)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images))[: batches * BATCH].split(BATCH):
            mirrored = bool(torch.rand(()) < 0.5)
            batch = images[chosen].float() / 255
            loss = loss_of(batch.flip(-1) if mirrored else batch, chosen, mirrored)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
    bar.close()
    network.eval().requires_grad_(False)


def start_from(network: CentreNetwork, classifier: dict[str, Tensor]) -> None:
    """The classifier's convolutions, and a heat map that starts near empty."""
    for part in (network.fine, network.coarse):
        part.load_state_dict({key: classifier[key] for key in part.state_dict()})
    nn.init.constant_(network.heatmap.bias, -4.0)  # type: ignore[arg-type]


def centre_loss(maps: Tensor, boxes: list[Tensor], classes: list[Tensor]) -> Tensor:
    """The loss of objects as points: `maps` from `CentreNetwork`, the true boxes
    `[k_i, 4]` and classes `[k_i]` of each image.

    Heat map: the focal loss that forgives cells near a centre (Law and Deng, 2018,
    (1)), with a Gaussian of a sixth of the box's sides around it. Edges: generalised
    IoU in the 3 × 3 cells around the centre that lie in the box, all objects alike.
    """
    n, channels, height, width = maps.shape
    logits, distances = maps.split([channels - 4, 4], dim=1)
    owner = torch.repeat_interleave(torch.tensor([len(b) for b in boxes]))
    box, kind = torch.cat(boxes), torch.cat(classes)
    objects = len(box)
    cell = ((box[:, :2] + box[:, 2:]) / 2 / STRIDE).long()

    # The Gaussian is 1 at the cell that holds the box's centre, its middle as (x, y).
    bumps = []
    for axis, side in enumerate((width, height)):
        away = torch.arange(side) - cell[:, axis, None]
        sigma = (box[:, 2 + axis] - box[:, axis]) / STRIDE / 6
        bumps.append((-(away / sigma[:, None]).square() / 2).exp())
    bump = bumps[1][:, :, None] * bumps[0][:, None, :]
    truth = torch.zeros(n * (channels - 4), height, width)
    place = (owner * (channels - 4) + kind)[:, None, None].expand_as(bump)
    truth = truth.scatter_reduce(0, place, bump, "amax").view_as(logits)
    p = logits.sigmoid()
    hit = (1 - p).square() * F.logsigmoid(logits)
    miss = (1 - truth) ** 4 * p.square() * F.logsigmoid(-logits)
    heat = -torch.where(truth == 1, hit, miss).sum() / objects

    around = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2))
    cells = cell[:, None] + around
    points = (cells + 0.5) * STRIDE
    inside = ((points > box[:, None, :2]) & (points < box[:, None, 2:])).all(dim=2)
    which, number = inside.nonzero(as_tuple=True)
    x, y = cells[which, number].T
    found = boxes_around(points[which, number], distances[owner[which], :, y, x])
    overlap = generalized_box_iou_loss(found, box[which])
    edges = (overlap / inside.sum(dim=1)[which]).sum() / objects
    return heat + edges


def detection_average_precision(found: list[Detection], truth: Scenes) -> np.ndarray:
    """The area under each class's precision-recall curve `[10]`, a detection being
    right if its IoU with a box of its class, not yet taken by a better detection, is
    at least 0.5. NaN for a class without boxes."""
    precision = []
    for kind in range(len(truth.categories)):
        right, scores, boxes = [], [], 0
        for detections, box, classes in zip(
            found, truth.boxes, truth.classes, strict=True
        ):
            mine = detections.labels == kind
            open_boxes = box[classes == kind]
            boxes += len(open_boxes)
            order = detections.scores[mine].argsort(descending=True)
            for b in detections.boxes[mine][order]:
                iou = box_iou(b[None], open_boxes)[0]
                hit = bool((iou >= 0.5).any())
                if hit:
                    keep = torch.arange(len(open_boxes)) != iou.argmax()
                    open_boxes = open_boxes[keep]
                right.append(hit)
            scores += detections.scores[mine][order].tolist()
        # scikit-learn's recall is of the boxes that were found.
        area = average_precision_score(right, scores) if any(right) else 0.0
        precision.append(area * sum(right) / boxes if boxes else np.nan)
    return np.array(precision)


def named(values: np.ndarray) -> dict[str, float]:
    categories = models.load("cnn_fashion_mnist").categories
    return dict(zip(categories, values.tolist(), strict=True))


def weights(name: str) -> Path:
    return DATA / "weights" / f"{name}.safetensors"


def save(name: str, network: nn.Module) -> None:
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, weights(name))
    weights(name).chmod(0o644)  # safetensors gives its files to the owner alone


def record(name: str, found: dict) -> None:
    """Put what was measured into `training.json`, beside what else is there."""
    path = DATA / "weights" / "training.json"
    known = json.loads(path.read_text())
    known[name] = found | {
        "test_scenes": TEST_SCENES,
        "data": f"{len(CLUTTER) * SCENES_PER_CLUTTER:,} scenes of Fashion-MNIST's "
        "60,000 training images; test scenes of the 1,000 packaged test images",
        "seed": SEED,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    path.write_text(json.dumps(known, indent=2) + "\n")
    print(f"{name}: {json.dumps(found, indent=2)}")


if __name__ == "__main__":
    main()
