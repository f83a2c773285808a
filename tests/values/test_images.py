# ruff: noqa: E501 - tables of values read best when they are dense
from __future__ import annotations

import io
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image, PngImagePlugin
from shelf import Shelf, digest, digests_elsewhere

from kitaru.codecs import Sharer, images, libraries
from kitaru.codecs.buffers import CHUNK
from kitaru.codecs.node import array_head, tag_bytes
from kitaru.errors import CodeNotFoundError, CorruptionError, UsageError


def there_and_back(image):
    shelf = Shelf()
    kept = shelf.keep(image)
    assert kept.kind == "data"
    return shelf.give(kept.root)


def assert_same(a, b):
    """All that counts: a copy of `b` whose class is the plain one."""
    assert type(a) is Image.Image
    assert a == b.copy()
    assert a.getpalette(None) == b.getpalette(None)
    assert a.convert("RGBA").tobytes() == b.convert("RGBA").tobytes() if a.mode not in ("I;16B", "I;16L", "I;16N", "HSV", "LAB", "La", "RGBa", "PA", "F") else True  # fmt: skip
    if a.getpalette(None):
        assert a.im.getpalettemode() == b.im.getpalettemode()


def noise(mode, size, seed=1):
    made = Image.new(mode, size)
    if mode == "1":
        made.putdata([255 * bit for bit in random.Random(seed).choices([0, 1], k=size[0] * size[1])])
    elif length := len(made.tobytes()):
        made = Image.frombytes(mode, size, random.Random(seed).randbytes(length))
    return made


def with_palette(mode, kind, count, seed=1):
    made = noise(mode, (5, 4))
    made.putpalette(random.Random(seed).randbytes(count * len(kind)), kind)
    return made


def with_info(image, **info):
    image.info = info
    return image


SIZES = [(1, 1), (3, 2), (9, 5), (0, 4), (4, 0), (0, 0)]
VALUES = [
    *(noise(mode, size) for mode in Image.MODES for size in SIZES),
    *(with_palette(mode, kind, count) for mode in ("P", "PA") for kind in ("RGB", "RGBA", "CMYK") for count in (1, 7, 256)),
    with_palette("P", "RGB", 7, seed=2),
    with_info(noise("L", (3, 2)), dpi=(72, 72)), with_info(noise("L", (3, 2)), dpi=(72.0, 72.0)), with_info(noise("P", (3, 2)), transparency=3),
    noise("RGB", (1500, 1000)),
]  # fmt: skip


@pytest.mark.parametrize("image", VALUES, ids=lambda image: f"{image.mode}-{image.size[0]}x{image.size[1]}")
def test_comes_back_equal_with_one_spelling(image):
    back = there_and_back(image)
    assert_same(back, image)
    assert digest(back) == digest(image)


def test_different_images_have_different_digests():
    assert len({digest(image) for image in VALUES}) == len(VALUES)


@settings(max_examples=60)
@given(st.sampled_from(Image.MODES), st.integers(0, 40), st.integers(0, 40), st.integers(0, 9))
def test_any_image_comes_back(mode, width, height, seed):
    image = noise(mode, (width, height), seed)
    assert_same(there_and_back(image), image)


@pytest.mark.parametrize("seed", [0, 4242])
def test_another_process_with_another_hash_seed_reads_and_writes_the_same(seed):
    there, here = digests_elsewhere(VALUES, seed)
    assert there == here


def test_an_opened_file_is_its_current_frame(tmp_path):
    image = noise("RGB", (50, 40)).quantize(16)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Title", "a\nb", lang="en")
    image.save(tmp_path / "a.png", transparency=2, dpi=(72, 72), pnginfo=text)
    with Image.open(tmp_path / "a.png") as opened:
        back = there_and_back(opened)
        assert_same(back, opened)
        assert (back.info, type(back.info["Title"])) == (opened.info, str)
    frames = [noise("L", (8, 8), seed).convert("P") for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as moving:
        moving.seek(2)
        assert there_and_back(moving).tobytes() == moving.tobytes()


def test_an_opened_file_has_the_digest_of_its_copy(tmp_path):
    noise("RGB", (50, 40)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert digest(opened) == digest(noise("RGB", (50, 40)))


def test_of_the_info_what_is_data_is_kept():
    image = with_info(
        noise("L", (2, 2)), b=1, a=(1, [2.5, {"k": b"x"}], None), lock=object(), many=[object()], **{"": "x"}
    )
    image.info[5] = 6
    assert there_and_back(image).info == {"": "x", "a": (1, [2.5, {"k": b"x"}], None), "b": 1}
    other = with_info(noise("L", (2, 2)), **{"a": (1, [2.5, {"k": b"x"}], None), "": "x", "b": 1})
    assert digest(image) == digest(other), "its order is no part of it"
    endless = []
    endless.append(endless)
    assert there_and_back(with_info(noise("L", (2, 2)), a=endless)).info == {}


def test_a_changed_pixel_is_one_new_chunk():
    shelf, image = Shelf(), noise("RGBA", (2000, 2000))
    shelf.keep(image)
    before = set(shelf.held)
    image.putpixel((10, 1200), (1, 2, 3, 4))
    shelf.keep(image)
    assert [len(shelf.held[digest]) for digest in shelf.held.keys() - before] == [CHUNK]


class Mine(Image.Image):
    pass


def test_a_subclass_of_the_users_own_is_pickled_as_before():
    image = Mine()
    image.__setstate__(noise("L", (2, 2)).__getstate__())
    assert Sharer().encode(image).kind == "pickle"


def test_an_argument_counts_by_its_pixels():
    image = noise("L", (100, 100))
    shared = Sharer().encode([image], otherwise="refer")
    assert (shared.kind, shared.digest) == ("data", digest([image]))


# ---- what no writer wrote -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [
        ["L", [10**6, 10**6], None, {}, b"x"], ["L", [-1, -1], None, {}, b"x"], ["L", [0, 2**31 - 1], None, {}, b""], ["L", [2**70, 0], None, {}, b""], ["L", [True, 1], None, {}, b"x"], ["L", [1], None, {}, b"x"], ["L", 1, None, {}, b"x"],
        ["Q", [1, 1], None, {}, b"x"], [[], [1, 1], None, {}, b"x"], ["1", [1, 1], None, {}, b"\1"], ["L", [1, 1], None, {}, b"xy"], ["L", [1, 1], None, {}, "x"], ["L", [1, 1], None, [], b"x"], ["L", [1, 1], None, {}], [],
        ["P", [1, 1], ["RGB", b""], {}, b"x"], ["P", [1, 1], ["foo", b"abc"], {}, b"x"], ["P", [1, 1], ["RGB", b"abcd"], {}, b"x"], ["P", [1, 1], ["RGB", b"abc" * 300], {}, b"x"], ["P", [1, 1], ["RGB"], {}, b"x"], ["P", [1, 1], 5, {}, b"x"], ["L", [1, 1], ["RGB", b"abc"], {}, b"x"],
    ],
    ids=lambda items: f"{items!r:.60}",
)  # fmt: skip
def test_what_no_writer_wrote_is_refused(items):
    shelf = Shelf()
    root = array_head(len(items) + 1) + tag_bytes("pillow.image") + b"".join(map(shelf.plain, items))
    with pytest.raises(CorruptionError):
        shelf.give(root)


def test_without_pillow_it_says_what_to_install(monkeypatch):
    shelf = Shelf()
    kept = shelf.keep(noise("L", (2, 2)))
    libraries._opened.cache_clear()
    monkeypatch.delitem(sys.modules, "kitaru.codecs.images")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(CodeNotFoundError, match="pip install pillow"):
        shelf.give(kept.root)


# ---- as a file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Image.MODES)
def test_a_png_is_without_loss_or_refused(mode):
    image = noise(mode, (30, 20))
    if mode == "P":
        image.putpalette(random.Random(2).randbytes(768))
    if mode not in images._EXPORTED:
        with pytest.raises(UsageError, match=f"the mode {mode}"):
            images.png(image)
        return
    with Image.open(io.BytesIO(images.png(image))) as back:
        assert (back.mode, back.tobytes(), back.getpalette()) == (image.mode, image.tobytes(), image.getpalette())


def test_pillow_is_not_loaded_by_arrays():
    code = "import sys, kitaru.codecs.arrays; print('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"
