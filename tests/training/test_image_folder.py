"""Folders of images: upright, cropped, on white, normalised exactly, read when asked for, refused by name."""

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.errors import DataFileError
from paperworks.training import image_folder
from paperworks.training.image_folder import ImageRows, list_classes, list_images, read_image

NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def save(path, pixels=NOISE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".ppm"])
def test_an_image_of_the_right_size_comes_back_to_the_bit(tmp_path, ending):
    assert np.array_equal(read_image(save(tmp_path / f"a{ending}"), 8), NOISE)


@pytest.mark.parametrize("ending", [".jpg", ".webp"])
def test_lossy_formats_come_back_nearly(tmp_path, ending):
    flat = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    assert np.abs(read_image(save(tmp_path / f"a{ending}", flat), 8).astype(int) - flat).max() <= 6


@pytest.mark.parametrize("wide", [True, False])
def test_the_middle_square_is_cropped(tmp_path, wide):
    """A square of noise between two margins is what is left."""
    framed = np.zeros((8, 16, 3), np.uint8)
    framed[:, 4:12] = NOISE
    framed = framed if wide else framed.transpose(1, 0, 2)
    expected = NOISE if wide else NOISE.transpose(1, 0, 2)
    assert np.array_equal(read_image(save(tmp_path / "a.png", framed), 8), expected)


def test_resizing_keeps_the_proportions_and_the_mean(tmp_path):
    quarters = np.zeros((64, 64, 3), np.uint8)
    quarters[:32, :32] = 240
    found = read_image(save(tmp_path / "a.png", quarters), 16).astype(float)
    assert found[:7, :7].min() > 230
    assert max(found[9:].max(), found[:, 9:].max()) < 10
    assert found.mean() == pytest.approx(60, abs=2)


@pytest.mark.parametrize(("tag", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_the_camera_that_was_turned_is_turned_back(tmp_path, tag, turns):
    exif = Image.Exif()
    exif[274] = tag
    save(tmp_path / "a.png", NOISE, exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", 8), np.rot90(NOISE, turns))


def test_transparent_pixels_are_white(tmp_path):
    clear = np.concatenate([NOISE, np.zeros((8, 8, 1), np.uint8)], 2)
    clear[:4, :, 3] = 255
    found = read_image(save(tmp_path / "a.png", clear), 8)
    assert np.array_equal(found[:4], NOISE[:4])
    assert (found[4:] == 255).all()


def test_grey_images_have_three_equal_channels_and_colour_can_be_read_grey(tmp_path):
    grey = save(tmp_path / "grey.png", NOISE[..., 0])
    assert np.array_equal(read_image(grey, 8), NOISE[..., :1].repeat(3, 2))
    found = read_image(save(tmp_path / "colour.png"), 8, channels=1)
    luminance = NOISE @ [0.299, 0.587, 0.114]
    assert found.shape == (8, 8, 1)
    assert np.abs(found[..., 0] - luminance).max() <= 1


def test_palettes_are_looked_up(tmp_path):
    flat = np.zeros((8, 8, 3), np.uint8)
    flat[:4] = (250, 10, 20)
    Image.fromarray(flat).quantize(4).save(tmp_path / "a.gif")
    assert np.abs(read_image(tmp_path / "a.gif", 8).astype(int) - flat).max() <= 8


def broken(path, kind):
    content = save(path).read_bytes()
    path.write_bytes({"empty": b"", "torn": content[: len(content) // 2], "prose": b"not a picture"}[kind])
    return path


@pytest.mark.parametrize("kind", ["empty", "torn", "prose"])
def test_what_is_no_image_is_refused_by_name(tmp_path, kind):
    with pytest.raises(DataFileError, match=r"b\.png is no readable image"):
        read_image(broken(tmp_path / "b.png", kind), 8)


def test_flipped_bytes_are_read_or_refused_but_nothing_else(tmp_path):
    whole, rng, refused = save(tmp_path / "a.png").read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] ^= int(rng.integers(1, 256))
        (tmp_path / "a.png").write_bytes(damaged)
        try:
            read_image(tmp_path / "a.png", 8)
        except DataFileError:
            refused += 1
    assert refused > 50


def test_more_pixels_than_fit_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folder, "MOST_PIXELS", 63)
    with pytest.raises(DataFileError, match=r"a\.png: 8x8 pixels; at most 63"):
        read_image(save(tmp_path / "a.png"), 8)


# Folders


@pytest.fixture
def photos(tmp_path):
    for label in ("dog", "cat"):
        for name in ("2.png", "1.JPG", ".hidden.png"):
            save(tmp_path / "photos" / label / name)
        (tmp_path / "photos" / label / "notes.txt").write_text("about")
    (tmp_path / "photos" / ".cache").mkdir()
    return tmp_path / "photos"


def test_sub_folders_are_classes_and_only_visible_images_count(photos):
    paths, labels = list_classes(photos)
    assert [str(path.relative_to(photos)) for path in paths] == ["cat/1.JPG", "cat/2.png", "dog/1.JPG", "dog/2.png"]
    assert labels == ["cat", "cat", "dog", "dog"]


def test_images_to_predict_are_one_a_flat_folder_or_folders(photos):
    assert list_images(photos / "cat" / "2.png") == [photos / "cat" / "2.png"]
    assert [path.name for path in list_images(photos / "cat")] == ["1.JPG", "2.png"]
    assert len(list_images(photos)) == 4


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda root: root / "cat", r"cat has no sub-folders \(2 images lie in it directly\); expected one sub-folder"),
        (lambda root: (root / "bird").mkdir(), "bird has no image in it; expected files ending in"),
        (lambda root: root / "nowhere", "nowhere does not exist"),
        (lambda root: root / "cat" / "2.png", r"2\.png is a file; give a folder"),
        (lambda root: [(root / "dog").rename(root.parent / "gone"), None][1], "has one class, 'cat'"),
    ],
)
def test_folders_of_another_kind_are_refused(photos, spoil, told):
    with pytest.raises(DataFileError, match=told):
        list_classes(spoil(photos) or photos)


def test_a_folder_without_images_to_predict_is_refused(tmp_path):
    with pytest.raises(DataFileError, match="has no image in it"):
        list_images(tmp_path)


# Rows


@pytest.mark.parametrize("keep_bytes", [0, 10**6])
def test_rows_are_normalised_by_channel_and_carry_their_labels(tmp_path, keep_bytes):
    paths = [save(tmp_path / f"{i}.png", np.roll(NOISE, i, 0)) for i in range(3)]
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    rows = ImageRows(paths, [7, 8, 9], 8, mean, std, keep_bytes)
    for _ in range(2):
        images, labels = rows[[2, 0]]
        expected = (np.stack([np.roll(NOISE, 2, 0), NOISE]) / 255 - mean) / std
        assert torch.allclose(images, torch.from_numpy(expected).permute(0, 3, 1, 2).float(), atol=1e-6)
        assert labels.tolist() == [9, 7]
    assert len(rows) == 3


@pytest.mark.parametrize(("keep_bytes", "reads"), [(0, 6), (3 * 8 * 8 * 3, 3), (3 * 8 * 8 * 3 - 1, 6)])
def test_small_sets_are_decoded_once_and_nothing_before_it_is_asked_for(tmp_path, monkeypatch, keep_bytes, reads):
    seen = []
    monkeypatch.setattr(image_folder, "read_image", lambda path, *_: seen.append(path) or read_image(path, 8))
    rows = ImageRows([save(tmp_path / f"{i}.png") for i in range(3)], None, 8, (0.5,) * 3, (1.0,) * 3, keep_bytes)
    assert not seen
    for _ in range(2):
        _, labels = rows[[0, 1, 2]]
    assert len(seen) == reads
    assert labels.tolist() == [0, 0, 0]
