# Copyright 2026 The reldistill authors. SPDX-License-Identifier: Apache-2.0
"""Class maps beside images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from reldistill_ros.cameras.images import read_rgb
from reldistill_ros.core.errors import InputError
from trainer.datasets.label_maps import read_label_maps, write_label_maps

CLASSES = np.arange(12, dtype=np.uint8).reshape(3, 4)


def write_pair(folder, classes=CLASSES, confidence=CLASSES):
    write_label_maps(folder, '07', classes, confidence)


def test_the_pair_comes_back_number_by_number(tmp_path):
    write_pair(tmp_path, CLASSES, 250 - CLASSES)
    class_map, confidence = read_label_maps(tmp_path, '07')
    assert class_map.dtype == confidence.dtype == np.uint8
    np.testing.assert_array_equal(class_map, CLASSES)
    np.testing.assert_array_equal(confidence, 250 - CLASSES)


def test_a_palette_image_gives_its_indices_not_its_colours(tmp_path):
    write_pair(tmp_path)
    image = Image.fromarray(CLASSES, 'P')
    image.putpalette([200] * 768)
    image.save(tmp_path / '07_class.png')
    np.testing.assert_array_equal(read_label_maps(tmp_path, '07')[0], CLASSES)


@pytest.mark.parametrize('kind', ['class', 'confidence'])
def test_a_missing_map_is_named(tmp_path, kind):
    write_pair(tmp_path)
    (tmp_path / f'07_{kind}.png').unlink()
    with pytest.raises(InputError, match=f'07_{kind}.png'):
        read_label_maps(tmp_path, '07')


def test_maps_of_different_sizes_are_refused(tmp_path):
    write_pair(tmp_path, CLASSES, CLASSES[:2])
    with pytest.raises(InputError, match='do not belong together'):
        read_label_maps(tmp_path, '07')


def test_a_colour_picture_is_no_class_map(tmp_path):
    write_pair(tmp_path, np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(InputError, match='one channel'):
        read_label_maps(tmp_path, '07')


def test_a_cut_off_file_is_an_input_error(tmp_path):
    write_pair(tmp_path, np.random.default_rng(0).integers(0, 19, (99, 99), dtype=np.uint8))
    path = tmp_path / '07_class.png'
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match='cannot be decoded'):
        read_label_maps(tmp_path, '07')


def test_a_grey_image_is_read_as_colour():
    image = read_rgb(png_bytes(CLASSES), 'here')
    assert image.shape == (3, 4, 3)
    np.testing.assert_array_equal(image[..., 2], CLASSES)


def png_bytes(pixels):
    import io

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format='PNG')
    return stream.getvalue()
