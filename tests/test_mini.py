"""The embedded suite: pixels that depend on (world, split, index) alone, a true shortcut, a start model that loads."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from robustbench_ft.errors import DataError, LeakError, UsageError
from robustbench_ft.mini import captions, world
from robustbench_ft.mini.canvas import HUES, blend, hsv, inside
from robustbench_ft.mini.draws import PI, Draws, mix, sin_cos
from robustbench_ft.mini.photo import PLACES
from robustbench_ft.mini.shapes import CLASSES, SHAPES, templates
from robustbench_ft.mini.styles import RENDITION_SEEN, RENDITION_TEST, SKETCH_SEEN, SKETCH_TEST

WORLD = 7
HASH_ALL = """
import hashlib
from robustbench_ft.mini import world
state = hashlib.sha256()
for split in world.SPLITS:
    state.update(world.render({world}, split, range(60)).images.tobytes())
print(state.hexdigest())
"""


def picture_hash(**variables: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", HASH_ALL.format(world=WORLD)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_mix_is_splitmix64():
    # The first three outputs of splitmix64 from seed 1234567, as published with the reference code.
    golden = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + k * golden) % 2**64 for k in range(3)], dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_sine_and_cosine():
    angle = np.linspace(-PI, PI, 1001)
    sine, cosine = sin_cos(angle)
    np.testing.assert_allclose(sine, np.sin(angle), atol=1e-8)
    np.testing.assert_allclose(cosine, np.cos(angle), atol=1e-8)


def test_draws_are_uniform_and_names_are_independent():
    d = Draws.of("test", WORLD, list(range(20_000)))
    a, b = d.uniform("a"), d.uniform("b")
    assert abs(a.mean() - 0.5) < 0.01 and abs(np.corrcoef(a, b)[0, 1]) < 0.03
    assert np.bincount(d.integers("c", 7), minlength=7).min() > 2600
    assert set(np.sign(d.signed("e", 1.0, 2.0))) == {-1.0, 1.0}


def test_pixels_do_not_depend_on_the_processor_features_that_numpy_uses():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    off = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    if not off:
        pytest.skip("this processor gives numpy nothing to switch off")
    assert picture_hash(NPY_DISABLE_CPU_FEATURES=",".join(off)) == picture_hash()


@pytest.mark.parametrize("split", world.SPLITS)
def test_part_of_a_split_equals_the_whole(split):
    whole = world.render(WORLD, split, range(230))
    kept = [229, 3, 104, 3]
    part = world.render(WORLD, split, kept)
    assert np.array_equal(part.images, whole.images[kept]) and np.array_equal(part.labels, whole.labels[kept])
    assert part.ids == tuple(f"{split}/{i:05d}" for i in kept) == world.listing(split, kept)[0]


def test_ids_are_in_byte_order_and_labels_balanced():
    for split in world.SPLITS:
        ids, labels = world.listing(split)
        assert list(ids) == sorted(ids) and len(ids) == world.size(split)
        assert len(set(np.bincount(labels, minlength=len(CLASSES)))) == 1


def test_worlds_and_splits_differ():
    images = [world.render(w, s, range(40)).images for w, s in [(7, "train"), (8, "train"), (7, "test"), (7, "val")]]
    assert len({hashlib.sha256(i.tobytes()).hexdigest() for i in images}) == 4
    assert not np.array_equal(templates(7, 2), templates(8, 2))


def test_every_shape_is_one_object_inside_the_template():
    shapes = templates(WORLD, 32)
    assert shapes.shape[:2] == (len(SHAPES), 32) == (20, 32)
    filled = (shapes < 0).mean(axis=(2, 3))
    assert filled.min() > 0.03 and filled.max() < 0.6
    edge = np.concatenate([shapes[..., 0, :], shapes[..., -1, :], shapes[..., :, 0], shapes[..., :, -1]], axis=-1)
    assert edge.min() > 0


def test_colour_conversion_and_coverage():
    red_green_blue = hsv(np.array([0.0, 1 / 3, 2 / 3]), np.ones(3), np.ones(3))[:, :, 0, 0]
    np.testing.assert_allclose(red_green_blue, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(inside(np.array([-2.0, 0.0, 2.0])), [1.0, 0.5, 0.0])
    flat = np.zeros((1, 3, 32, 32))
    np.testing.assert_allclose(blend(flat, np.ones((1, 3, 1, 1)), np.full((1, 32, 32), 0.25)), 0.25)


def linked(split: str) -> tuple[float, float]:
    """How often an image of a split has its class's own colour, and its own place."""
    spec, index = world.SPLITS[split], np.arange(world.size(split))
    d, label, (hue, place) = Draws.of(split, WORLD, index), index % len(CLASSES), world.links(WORLD)
    colour = world.lean(d, "colour", hue[label], spec.hue_link, len(HUES))
    kind = world.lean(d, "place", place[label], spec.place_link, len(spec.places))
    return float((colour == hue[label]).mean()), float((kind == place[label]).mean())


@pytest.mark.parametrize("split", ["train", "val", "test", "v2", "a-pool", "objectnet", "rendition"])
def test_shortcut_is_as_strong_as_declared(split):
    spec = world.SPLITS[split]
    colour, place = linked(split)
    assert colour == pytest.approx(spec.hue_link + (1 - spec.hue_link) / len(HUES), abs=0.04)
    assert place == pytest.approx(spec.place_link + (1 - spec.place_link) / len(spec.places), abs=0.04)


def test_the_shortcut_is_in_the_pixels_of_train_and_not_of_the_rendition():
    def colour_of_class(split):
        made = world.render(WORLD, split, range(1000))
        centre = made.images[:, 12:20, 12:20].mean(axis=(1, 2))
        between = np.var([centre[made.labels == c].mean(axis=0) for c in range(20)], axis=0).sum()
        return between / centre.var(axis=0).sum()

    assert colour_of_class("train") > 2 * colour_of_class("rendition")


def test_pretraining_does_not_see_the_shifts_as_tested():
    assert not set(SKETCH_TEST) & set(SKETCH_SEEN) and not set(RENDITION_TEST) & set(RENDITION_SEEN)
    assert not set(SKETCH_TEST.values()) & set(SKETCH_SEEN.values())
    assert not set(RENDITION_TEST.values()) & set(RENDITION_SEEN.values())
    assert min(captions.WORLDS) >= 1000
    objectnet = world.SPLITS["objectnet"]
    assert len(set(objectnet.places) - set(captions.PLACES)) >= 2 and set(objectnet.places) <= set(PLACES)
    assert objectnet.pose.turn[1] > captions.POSES["photo"].turn[1]
    assert set(world.SPLITS["v2"].places) - set(captions.PLACES) == {"checker"}


def test_captions_are_known_words_and_mostly_right():
    from robustbench_ft.mini.clip import WordTokenizer

    pool = captions.mixture("test", 2000)
    tokens = WordTokenizer()(list(pool.captions))
    assert tokens.shape == (2000, 12) and pool.images.shape == (2000, 32, 32, 3)
    assert np.array_equal(captions.mixture("test", 150).images, pool.images[:150])
    named = pool.nouns >= 0
    assert named.mean() == pytest.approx(0.92, abs=0.03)
    pairs = zip(pool.nouns, pool.captions, strict=True)
    assert all(captions.NOUNS[noun] in caption.split() for noun, caption in pairs if noun >= 0)


def test_tokenizer():
    from robustbench_ft.mini.clip import WORDS, WordTokenizer

    tokenise = WordTokenizer()
    tokens = tokenise(["a photo of a Ring.", "ring"])
    assert tokens.shape == (2, tokenise.context_length) and tokens.dtype.is_signed
    assert tokens.argmax(1).tolist() == [6, 2], "the end has the highest id"
    assert tokens[0, 1:6].tolist() == [WORDS.index(w) for w in ("a", "photo", "of", "a", "ring")]
    assert tokenise("ring", context_length=4).tolist() == [tokens[1, :4].tolist()]
    assert tokenise(" ".join(["ring"] * 30))[0, -1] == len(WORDS) - 1, "a long text is cut and still ends"
    assert len(set(WORDS)) == len(WORDS)
    with pytest.raises(UsageError, match="zebra"):
        tokenise("a photo of a zebra")
    for template in captions.TEMPLATES:
        tokenise([template.format(name) for name in CLASSES])


def test_start_model_loads_and_fits_its_architecture():
    import torch

    from robustbench_ft.files import DATA
    from robustbench_ft.mini import clip

    file = DATA / "mini-clip.safetensors"
    assert file.stat().st_size <= 4_000_000
    model, tokenise = clip.load(file)
    assert tokenise.words == clip.WORDS and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    with torch.inference_mode():
        images = model.encode_image(torch.zeros(2, 3, 32, 32), normalize=True)
        texts = model.encode_text(tokenise(["a ring", "a moon"]), normalize=True)
    assert images.shape == texts.shape == (2, clip.EMBED)
    assert not torch.allclose(texts[0], texts[1])


def test_saved_model_comes_back(tmp_path):
    import torch

    from robustbench_ft.mini import clip

    model, tokenise = clip.build(6), clip.WordTokenizer(("<pad>", "<start>", "a", "cat", "dog", "<end>"))
    clip.save(model, tokenise, tmp_path / "small.safetensors")
    again, words = clip.load(tmp_path / "small.safetensors")
    assert words.words == tokenise.words
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "other").write_bytes(b"not a safetensors file")
    with pytest.raises(DataError, match="other"):
        clip.load(tmp_path / "other")


def test_test_splits_stay_closed_while_a_method_fits():
    from robustbench_ft.seal import sealed

    with sealed():
        world.render(WORLD, "train", [0])
        with pytest.raises(LeakError, match="sketch"):
            world.render(WORLD, "sketch", [0])
