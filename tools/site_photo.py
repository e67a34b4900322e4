"""The site's page "Your own photograph": the network and its runtime, packed.

The page loads its files as scripts, since a browser lets a page that was opened from a
folder read nothing else. Each script holds one file, gzipped, in base64.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xai_lib.core.paths import cache_path
from xai_lib.zoo import models, photos

PAGE = "your_photo.md"
RUNTIME = "onnxruntime-web@1.30.0"
RUNTIME_HASH = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
GPU = "-gpu"
"""Ends the names of the build that can use WebGPU, which is the larger one."""
FILES = {
    "ort": "ort.wasm.min.js",
    "glue": "ort-wasm-simd-threaded.mjs",
    "wasm": "ort-wasm-simd-threaded.wasm",
    f"ort{GPU}": "ort.webgpu.min.js",
    f"glue{GPU}": "ort-wasm-simd-threaded.asyncify.mjs",
    f"wasm{GPU}": "ort-wasm-simd-threaded.asyncify.wasm",
}
SCRIPTS = {"philox": "philox.js", "explain": "explain.js", "worker": "photo-worker.js"}


class Missing(RuntimeError):
    """What the page needs and this machine lacks."""


def add_photo_page(source: Path, folder: Path) -> None:
    """Complete the page in the site's sources, or say on it what was missing.

    Args:
        source: the site's sources, `_static/live` among them.
        folder: keeps the packed files from build to build.
    """
    page = source / PAGE
    packed = source / "_static" / "live" / "packed"
    try:
        pack(folder, source / "_static" / "live")
    except Missing as missing:
        title = page.read_text(encoding="utf-8").partition("\n")[0]
        text = f"{title}\n\nThis site was built without this page: {missing}\n"
        page.write_text(text, encoding="utf-8")
        return
    shutil.copytree(folder, packed, ignore=shutil.ignore_patterns("key.txt"))
    sizes = {path.stem: path.stat().st_size for path in packed.glob("*.js")}
    larger = {name for name in FILES if name.endswith(GPU)}
    text = page.read_text(encoding="utf-8")
    for word, others in (("MEGABYTES", larger), ("WITH_GPU", FILES.keys() - larger)):
        size = sum(sizes[name] for name in sizes.keys() - others)
        # Base64 has four characters for three bytes; servers undo that by compressing.
        text = text.replace(word, f"{size * 3 / 4 / 1e6:.0f}")
    page.write_text(text, encoding="utf-8")


def pack(folder: Path, scripts: Path) -> None:
    """Write the scripts into `folder`, unless what they are made of is the same.

    Raises:
        Missing: a package, npm, or the network.
    """
    absent = [name for name in ("onnx", "onnxscript") if not _installed(name)]
    if absent:
        raise Missing(f"it needs `pip install {' '.join(absent)}`.")
    code = {name: (scripts / file).read_bytes() for name, file in SCRIPTS.items()}
    made_of = [RUNTIME_HASH, torch.__version__, Path(__file__).read_text("utf-8")]
    digest = hashlib.sha256("\n".join(made_of).encode())
    for content in code.values():
        digest.update(content)
    key = folder / "key.txt"
    if key.exists() and key.read_text(encoding="utf-8") == digest.hexdigest():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    contents = {**runtime(cache_path() / "site"), **code, "lite0": network()}
    contents["names"] = json.dumps(models.IMAGENET_CATEGORIES).encode()
    contents["cat"] = cat()
    for name, content in contents.items():
        text = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        script = f'photoPack("{name}","{text}");\n'
        (folder / f"{name}.js").write_text(script, encoding="utf-8")
    key.write_text(digest.hexdigest(), encoding="utf-8")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def runtime(folder: Path) -> dict[str, bytes]:
    """onnxruntime-web's files, by their names here; fetched by npm, once.

    Raises:
        Missing: npm, or the network; or another file came than the one that is meant.
    """
    archive = folder / f"{RUNTIME.replace('@', '-')}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as part:
            command = ["npm", "pack", "--silent", "--pack-destination", part, RUNTIME]
            try:
                subprocess.run(command, check=True, capture_output=True, cwd=part)
            except (OSError, subprocess.CalledProcessError) as error:
                raise Missing(f"npm could not fetch {RUNTIME}.") from error
            (Path(part) / archive.name).replace(archive)
    content = archive.read_bytes()
    if hashlib.sha256(content).hexdigest() != RUNTIME_HASH:
        archive.unlink()
        raise Missing(f"{RUNTIME} is not the file that it was.")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = {}
        for name, file in FILES.items():
            member = tar.extractfile(f"package/dist/{file}")
            assert member is not None
            found[name] = member.read()
    return found


def network() -> bytes:
    """EfficientNet-Lite0 as ONNX: `images` [n, 3, 224, 224] to `probabilities`."""
    import onnx  # not everyone who builds the site has it

    model = models.load("efficientnet_lite0")
    parts = [model.normalize, model.network, torch.nn.Softmax(dim=1)]
    net = torch.nn.Sequential(*parts).eval()
    n = torch.export.Dim("n", min=1, max=64)
    with contextlib.redirect_stdout(io.StringIO()):
        program = torch.onnx.export(
            net,
            (torch.zeros(2, 3, 224, 224),),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: n},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # Where each node came from in the source: paths of this machine.
    for node in proto.graph.node:
        del node.metadata_props[:]
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            numbers = np.frombuffer(tensor.raw_data, np.float32)
            # Zeros at the end of each number, which gzip leaves out.
            tensor.raw_data = numbers.astype(np.float16).astype(np.float32).tobytes()
    return proto.SerializeToString(deterministic=True)


def cat() -> bytes:
    """Chelsea (CC0) at the network's size, as a PNG."""
    image = (photos.load("chelsea").image[0] * 255).round().byte()
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return buffer.getvalue()
