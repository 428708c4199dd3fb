"""Data sets, corruptions and out-of-distribution images.

Without a download: `digits`, real images, and `synthetic`, images of any size. From your files:
`cifar10` and `cifar100` read the binary releases, `cifar10c` the corrupted test images, `mnist`,
`fashion_mnist` and `emnist` the idx files, `svhn` the .mat files, `image_folder` a folder per
class. `augment` crops and flips a batch on its device. `corrupt` applies the 15 corruptions of
CIFAR-10-C to images of any task. `random_images`, `folder_images` and `random_textures` are
out-of-distribution images, from which `Outliers` draws batches; `SmoothedNoise` makes batches of
noise from training images. `random_crops`, `resized` and `sample_photos` are natural images for
out-of-distribution tests.
"""

from rrfast.data.augmentation import augment
from rrfast.data.cifar import cifar10, cifar100
from rrfast.data.cifar_c import CORRUPTIONS, EXTRA_CORRUPTIONS, cifar10c
from rrfast.data.corruptions import corrupt
from rrfast.data.folder import ImageFolder, image_folder
from rrfast.data.idx import EMNIST_CLASSES, emnist, fashion_mnist, mnist
from rrfast.data.noise import SmoothedNoise, gaussian_noise, smoothed_noise, uniform_noise
from rrfast.data.outliers import Outliers, folder_images, random_images, random_textures
from rrfast.data.patches import random_crops, resized, sample_photos
from rrfast.data.release import Released
from rrfast.data.scikit_digits import Digits, digits
from rrfast.data.split import Split
from rrfast.data.svhn_files import svhn
from rrfast.data.synthetic_task import Synthetic, synthetic

__all__ = [
    "CORRUPTIONS",
    "EMNIST_CLASSES",
    "EXTRA_CORRUPTIONS",
    "Digits",
    "ImageFolder",
    "Outliers",
    "Released",
    "SmoothedNoise",
    "Split",
    "Synthetic",
    "augment",
    "cifar10",
    "cifar10c",
    "cifar100",
    "corrupt",
    "digits",
    "emnist",
    "fashion_mnist",
    "folder_images",
    "gaussian_noise",
    "image_folder",
    "mnist",
    "random_crops",
    "random_images",
    "random_textures",
    "resized",
    "sample_photos",
    "smoothed_noise",
    "svhn",
    "synthetic",
    "uniform_noise",
]
