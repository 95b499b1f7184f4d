"""A folder of images with a sub-folder for each class: read lazily, refused in words where it is something else."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from paperworks.errors import DataFileError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
MOST_PIXELS = 200_000_000  # a larger image is taken for an attack on memory


def image_files(folder: Path) -> list[Path]:
    """Images directly in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))


def list_classes(folder: Path) -> tuple[list[Path], list[str]]:
    """Paths of all images and the class (sub-folder) of each.

    Raises:
        DataFileError: no folder, no sub-folders, fewer than two classes, or a class without images.
    """
    _check_folder(folder)
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        loose = len(image_files(folder))
        raise DataFileError(
            f"{folder} has no sub-folders ({loose} images lie in it directly); expected one sub-folder for each class, "
            f"such as {folder}/cat/1.jpg and {folder}/dog/2.jpg"
        )
    paths, labels = [], []
    for each in classes:
        found = image_files(each)
        if not found:
            raise DataFileError(f"{each} has no image in it; expected files ending in {', '.join(ENDINGS)}")
        paths += found
        labels += [each.name] * len(found)
    if len(classes) < 2:
        raise DataFileError(f"{folder} has one class, '{classes[0].name}'; at least two are needed to tell apart")
    return paths, labels


def list_images(source: Path) -> list[Path]:
    """Images to predict on: one file, a flat folder, or a folder of class folders."""
    if source.is_file():
        return [source]
    _check_folder(source)
    found = image_files(source) + [p for d in sorted(source.iterdir()) if d.is_dir() for p in image_files(d)]
    if not found:
        raise DataFileError(f"{source} has no image in it; expected files ending in {', '.join(ENDINGS)}")
    return found


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        raise DataFileError(f"{folder} does not exist")
    if not folder.is_dir():
        raise DataFileError(f"{folder} is a file; give a folder with one sub-folder for each class")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataFileError(f"{folder} cannot be read: permission denied")


def read_image(path: Path, side: int, channels: int = 3) -> np.ndarray:
    """One image as uint8 (side, side, channels): upright by its EXIF tag, shorter side resized, centre cropped.

    Raises:
        DataFileError: the file is damaged, no image, or of more than MOST_PIXELS pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise DataFileError(
                        f"{path}: {image.width}x{image.height} pixels; at most {MOST_PIXELS:,} are read"
                    )
                image.draft("RGB", (2 * side, 2 * side))  # JPEG decodes small at once
                upright = ImageOps.exif_transpose(image)
                plain = _on_white(upright).convert("RGB" if channels == 3 else "L")
                fitted = ImageOps.fit(plain, (side, side), Image.Resampling.BICUBIC)
    except DataFileError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataFileError(f"{path} is no readable image: {error}; remove it or write it again") from error
    return np.asarray(fitted).reshape(side, side, channels)


def _on_white(image: Image.Image) -> Image.Image:
    """Transparent pixels become white, as a viewer shows them."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    layer = image.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer)


class ImageRows:
    """Rows (image, label) read when asked for; small sets are kept decoded.

    Images are float32 (channels, side, side), normalised by `mean` and `std` of their channels.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int] | None,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        keep_bytes: int = 512 * 2**20,
    ):
        self.paths, self.side = list(paths), side
        self.labels = torch.zeros(len(paths), dtype=torch.long) if labels is None else torch.as_tensor(labels)
        self.mean, self.std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
        self.channels = len(mean)
        self._keep = len(paths) * side * side * self.channels <= keep_bytes
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def pixels(self, row: int) -> np.ndarray:
        """One decoded image, uint8."""
        if row in self._kept:
            return self._kept[row]
        image = read_image(self.paths[row], self.side, self.channels)
        if self._keep:
            self._kept[row] = image
        return image

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        stacked = torch.from_numpy(np.stack([self.pixels(row) for row in rows]))
        images = stacked.permute(0, 3, 1, 2).float().div_(255)
        return (images - self.mean) / self.std, self.labels[rows]
