"""Augmentation: what each transform does to pixels and labels, and on what its draws depend."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from yseg.config import Augmentation, no_augmentation
from yseg.data.augment import augment_geometry, augment_intensity

pytestmark = pytest.mark.usefixtures("strict_dtypes")

ON = Augmentation(elastic_probability=1.0, blur_probability=1.0, sharpen_probability=1.0, noise_probability=1.0)
OFF = no_augmentation()

COMPILE_FAST = {"xla_backend_optimization_level": 0}  # every program here runs once or twice


def only(**knobs):
    return dataclasses.replace(OFF, **knobs)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def noise_images(batch, size=24, channels=1, seed=0):
    values = np.random.default_rng(seed).normal(size=(batch, size, size, channels))
    return jnp.asarray(values, jnp.float32)


def random_labels(batch, size=24, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(-1, 3, (batch, size, size)), jnp.int32)


def augment(key, image, labels, config):
    """Both parts, as a training step applies them."""
    image, labels = augment_geometry(key, image, labels, config)
    return augment_intensity(key, image, config), labels


@functools.cache
def jitted(knobs):
    return jax.jit(jax.vmap(functools.partial(augment, config=Augmentation(*knobs))), compiler_options=COMPILE_FAST)


def apply(config, sample_keys, images, labels=None):
    """Both parts on every sample by its own key, jitted once a config, as NumPy arrays."""
    images, labels = jitted(dataclasses.astuple(config))(sample_keys, images, labels)
    return np.asarray(images), None if labels is None else np.asarray(labels)


def repeated(image, count):
    return jnp.tile(image[None], (count, 1, 1, 1))


def symmetries(image):
    """The eight symmetries of the square, as bytes."""
    return {np.ascontiguousarray(np.rot90(side, turns)).tobytes() for side in (image, image[::-1]) for turns in range(4)}


def test_with_everything_off_the_input_comes_back():
    images, labels = noise_images(3, channels=2), random_labels(3)
    new_images, new_labels = apply(OFF, keys(3), images, labels)
    np.testing.assert_array_equal(new_images, images)
    np.testing.assert_array_equal(new_labels, labels)


@pytest.mark.parametrize("knob", ["elastic_pixels", "blur_pixels", "sharpen_amount", "noise"])
def test_a_strength_of_zero_switches_a_transform_off(knob):
    probability = {"elastic_pixels": "elastic_probability", "blur_pixels": "blur_probability",
                   "sharpen_amount": "sharpen_probability", "noise": "noise_probability"}[knob]
    images = noise_images(2)
    np.testing.assert_array_equal(apply(only(**{probability: 1.0, knob: 0.0}), keys(2), images)[0], images)


def test_rotations_and_flips_reach_the_eight_symmetries_equally_often():
    count = 800
    image = noise_images(1, size=5)[0]
    results = [result.tobytes() for result in apply(only(rotate=True, flip=True), keys(count), repeated(image, count))[0][..., 0]]
    assert set(results) == symmetries(np.asarray(image)[..., 0])
    frequencies = np.array([results.count(result) for result in set(results)]) / count
    np.testing.assert_allclose(frequencies, 1 / 8, atol=4 * np.sqrt(1 / 8 * 7 / 8 / count))


@pytest.mark.parametrize("knob", ["rotate", "flip"])
def test_rotation_alone_and_flips_alone_reach_their_own_four_symmetries(knob):
    image = noise_images(1, size=5)[0]
    results = {result.tobytes() for result in apply(only(**{knob: True}), keys(200), repeated(image, 200))[0][..., 0]}
    plain = np.asarray(image)[..., 0]
    flips = (plain, plain[::-1], plain[:, ::-1], plain[::-1, ::-1])
    turns = [np.rot90(plain, turn) for turn in range(4)]
    assert results == {np.ascontiguousarray(side).tobytes() for side in (turns if knob == "rotate" else flips)}


def test_rotations_and_flips_move_labels_and_every_channel_alike():
    labels = random_labels(16)
    images = jnp.stack([labels, 2 * labels], axis=-1).astype(jnp.float32)
    new_images, new_labels = apply(only(rotate=True, flip=True), keys(16), images, labels)
    assert (new_labels != np.asarray(labels)).any()
    np.testing.assert_array_equal(new_images[..., 0], new_labels)
    np.testing.assert_array_equal(new_images[..., 1], 2 * new_labels)


def test_patches_that_are_not_square_can_be_flipped_and_not_rotated():
    image, labels = jnp.ones((4, 6, 1)), jnp.ones((4, 6), jnp.int32)
    assert augment_geometry(jax.random.key(0), image, labels, only(flip=True))[0].shape == (4, 6, 1)
    with pytest.raises(ValueError, match=r"^image of 4 x 6: must be square to be rotated"):
        augment_geometry(jax.random.key(0), image, labels, only(rotate=True))


def test_elastic_deformation_moves_labels_with_the_image():
    y, x = np.mgrid[:64, :64]
    steps = np.stack([y, x]) // 16  # a staircase in y and one in x
    images, labels = jnp.asarray(steps[..., None], jnp.float32), jnp.asarray(steps, jnp.int32)
    new_images, new_labels = apply(only(elastic_probability=1.0), keys(2), images, labels)
    assert (new_labels != steps).mean() > 0.05
    # Half a pixel from a step the bilinear image is halfway, so rounding agrees with the nearest label but for exact ties.
    assert np.mean(np.abs(new_images[..., 0] - new_labels) <= 0.5 + 1e-4) > 0.99


def test_elastic_deformation_of_coordinates_shows_a_smooth_displacement_of_the_set_size():
    # The image holds its own coordinates, so the result shows where each pixel was taken from.
    count, size, spacing = 400, 65, 16
    coordinates = jnp.asarray(np.stack(np.mgrid[:size, :size], axis=-1), jnp.float32)
    config = only(elastic_probability=1.0, elastic_pixels=2.0, elastic_spacing=spacing)
    displacement = apply(config, keys(count), repeated(coordinates, count))[0] - np.asarray(coordinates)
    centre = displacement[:, 2 * spacing, 2 * spacing]
    np.testing.assert_allclose(centre.mean(axis=0), 0.0, atol=4 * 2 / np.sqrt(count))
    np.testing.assert_allclose(centre.std(axis=0), 2.0, rtol=4 / np.sqrt(2 * count))
    assert abs(np.corrcoef(centre.T)[0, 1]) < 4 / np.sqrt(count)
    assert np.abs(np.diff(displacement[:, 16:-16, 16:-16], axis=1)).max() < 1


def test_zoom_takes_every_pixel_from_its_distance_to_the_centre_divided_by_the_factor():
    count, size = 300, 33
    centre = (size - 1) / 2
    coordinates = jnp.asarray(np.stack(np.mgrid[:size, :size], axis=-1), jnp.float32)
    labels = jnp.asarray(np.broadcast_to(np.mgrid[:size, :size][0], (count, size, size)), jnp.int32)
    images, found = apply(only(zoom=0.2), keys(count), repeated(coordinates, count), labels)
    inner = slice(8, -8)  # which comes from inside the patch
    factors = 1 / (images[:, -9, 16, 0] - images[:, 8, 16, 0]) * (size - 17)
    expected = centre + (np.asarray(coordinates)[None] - centre) / factors[:, None, None, None]
    np.testing.assert_allclose(images[:, inner, inner], expected[:, inner, inner], atol=1e-3)
    assert (np.abs(found - images[..., 0])[:, inner, inner] <= 0.5 + 1e-3).all()
    logs = np.log(factors)
    assert -0.2 <= logs.min() < -0.15 < 0.15 < logs.max() <= 0.2 + 1e-5
    assert abs(logs.mean()) < 0.04


def test_zoom_leaves_the_draws_of_the_other_transforms():
    images = noise_images(4)
    plain, zoomed = (apply(only(rotate=True, flip=True, noise_probability=1.0, noise=0.5, zoom=zoom), keys(4), images)[0]
                     for zoom in (0.0, 1e-6))
    np.testing.assert_allclose(plain, zoomed, atol=1e-3)


def test_tissue_beyond_the_patch_is_its_mirror_image_with_labels():
    # A displacement of several pixels reaches beyond; what comes from there lies as far inside, and the labels come along.
    size = 33
    steps = np.stack(np.mgrid[:size, :size], axis=-1)
    images = repeated(jnp.asarray(steps, jnp.float32), 8)
    config = only(elastic_probability=1.0, elastic_pixels=6.0)
    labels = jnp.broadcast_to(jnp.asarray(steps[..., 0], jnp.int32), (8, size, size))
    new_images, new_labels = apply(config, keys(8), images, labels)
    assert new_images.min() >= 0
    assert new_images.max() <= size - 1
    # Mirrored, positions pass through the edge; repeated, whole strips of pixels would lie exactly on it.
    on_the_edge = ((new_images < 1e-4) | (new_images > size - 1 - 1e-4)).any(axis=-1)
    assert on_the_edge.mean() < 0.01
    assert np.mean(np.abs(new_images[..., 0] - new_labels) <= 0.5 + 1e-4) > 0.99


def test_labels_are_never_invented():
    labels = jnp.asarray(np.random.default_rng(0).choice([-1, 0, 7], (8, 24, 24)), jnp.int32)
    _, new_labels = apply(ON, keys(8), noise_images(8), labels)
    assert new_labels.dtype == np.int32
    assert set(np.unique(new_labels)) <= {-1, 0, 7}
    _, unlabelled = apply(ON, keys(8), noise_images(8), jnp.full((8, 24, 24), -1, jnp.int32))
    assert (unlabelled == -1).all()


def test_brightness_and_contrast_are_affine_and_within_their_bounds():
    count = 300
    image = noise_images(1, size=8, channels=2)[0]
    results, _ = apply(only(brightness=0.3, contrast=0.4), keys(count), repeated(image, count))
    flat = np.asarray(image, np.float64).ravel()
    slopes, offsets = np.polyfit(flat, results.reshape(count, -1).T.astype(np.float64), 1)
    np.testing.assert_allclose(results.reshape(count, -1), slopes[:, None] * flat + offsets[:, None], atol=1e-5)
    for values, bound in ((np.log(slopes), 0.4), (offsets, 0.3)):
        assert np.abs(values).max() <= bound + 1e-5
        assert np.abs(values).max() > 0.9 * bound
        np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.15)
    assert abs(np.corrcoef(slopes, offsets)[0, 1]) < 4 / np.sqrt(count)


def test_gamma_keeps_the_order_of_intensities_their_mean_and_their_deviation():
    count = 50
    image = noise_images(1, size=16, channels=2)[0]
    results, _ = apply(only(gamma=0.5), keys(count), repeated(image, count))
    order = np.argsort(np.asarray(image).ravel())
    assert (np.diff(results.reshape(count, -1)[:, order], axis=1) >= 0).all()
    np.testing.assert_allclose(results.mean(axis=(1, 2, 3)), np.mean(image), atol=1e-5)
    np.testing.assert_allclose(results.std(axis=(1, 2, 3)), np.std(image), rtol=1e-4)
    unit = (np.asarray(image, np.float64) - np.min(image)) / np.ptp(np.asarray(image))
    skew = ((results - results.mean(axis=(1, 2, 3), keepdims=True)) ** 3).mean(axis=(1, 2, 3))
    bounds = [((power - power.mean()) ** 3).mean() / power.std() ** 3 * np.std(image) ** 3
              for power in (unit ** np.exp(0.5), unit ** np.exp(-0.5))]
    assert min(bounds) - 1e-3 <= skew.min() < skew.max() <= max(bounds) + 1e-3


def test_constant_patches_stay_finite_and_only_noise_brightness_and_contrast_change_them():
    images = jnp.full((8, 24, 24, 1), 1.5)
    config = dataclasses.replace(ON, brightness=0.0, contrast=0.0, noise=0.0)
    np.testing.assert_allclose(apply(config, keys(8), images)[0], 1.5, rtol=1e-5)
    assert np.isfinite(apply(ON, keys(8), images, random_labels(8))[0]).all()


def test_blur_is_gaussian_with_sigmas_up_to_the_bound():
    # A bright pixel shows the kernel: how much darker its neighbour is tells sigma, and SciPy then predicts the texture.
    count, size = 20, 49
    image = np.zeros((size, size, 2), np.float32)
    image[24, 24, 0] = 1
    image[..., 1] = noise_images(1, size)[0, ..., 0]
    results, _ = apply(only(blur_probability=1.0, blur_pixels=3.0), keys(count), repeated(jnp.asarray(image), count))
    with np.errstate(divide="ignore"):
        sigmas = np.sqrt(-0.5 / np.log(results[:, 24, 25, 0].astype(np.float64) / results[:, 24, 24, 0]))
    assert 2.0 < sigmas.max() <= 3.0 + 1e-3
    far = np.s_[18:-18, 18:-18]
    for result, sigma in zip(results, sigmas, strict=True):
        expected = ndimage.gaussian_filter(image[..., 1].astype(np.float64), sigma, truncate=6)
        np.testing.assert_allclose(result[..., 1][far], expected[far], atol=1e-4)


def test_sharpening_adds_what_a_blur_takes_away():
    count = 20
    image = np.asarray(noise_images(1, 32)[0])
    results, _ = apply(only(sharpen_probability=1.0, sharpen_amount=2.0), keys(count), repeated(jnp.asarray(image), count))
    mask = image[..., 0] - ndimage.gaussian_filter(image[..., 0].astype(np.float64), 1.0, truncate=6)
    far = np.s_[8:-8, 8:-8]
    for result in results:
        change = (result - image)[..., 0][far]
        amount = (change * mask[far]).sum() / (mask[far] ** 2).sum()
        assert 0 <= amount <= 2
        np.testing.assert_allclose(change, amount * mask[far], atol=1e-4)


def test_noise_is_white_independent_between_channels_and_of_the_set_deviation():
    count, size = 300, 16
    results, _ = apply(only(noise_probability=1.0, noise=0.6), keys(count), jnp.zeros((count, size, size, 2)))
    deviations = results.std(axis=(1, 2, 3))
    assert 0.55 < deviations.max() < 0.6 * 1.2
    np.testing.assert_allclose(deviations.mean(), 0.3, rtol=0.1)
    unit = results / deviations[:, None, None, None]
    limit = 4 / np.sqrt(unit[..., 0].size)
    assert abs((unit[..., 0] * unit[..., 1]).mean()) < limit
    assert abs((unit[:, 1:] * unit[:, :-1]).mean()) < limit
    assert abs(unit.mean()) < limit


@pytest.mark.parametrize("name", ["elastic", "blur", "sharpen", "noise"])
def test_a_transform_hits_the_set_share_of_the_samples(name):
    count = 400
    image = noise_images(1, size=8)[0]
    results, _ = apply(only(**{f"{name}_probability": 0.3}), keys(count), repeated(image, count))
    share = (results != np.asarray(image)).any(axis=(1, 2, 3)).mean()
    assert abs(share - 0.3) < 4 * np.sqrt(0.3 * 0.7 / count)


def test_intensities_change_alike_in_all_channels():
    single = noise_images(8)
    images = jnp.tile(single, (1, 1, 1, 3))
    results, _ = apply(dataclasses.replace(ON, noise_probability=0.0), keys(8), images)
    np.testing.assert_allclose(results, np.repeat(results[..., :1], 3, axis=-1), atol=1e-5)


def test_a_result_depends_on_its_own_key_not_on_the_batch_around_it():
    sample_keys, images, labels = keys(8), noise_images(8), random_labels(8)
    together = apply(ON, sample_keys, images, labels)
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    for chosen, rounding in ((order, 0), (order[:3], 1e-4)):  # sums over a patch may round otherwise in a batch of another size
        apart = apply(ON, sample_keys[chosen], images[chosen], labels[chosen])
        np.testing.assert_allclose(apart[0], together[0][chosen], rtol=0, atol=rounding)
        np.testing.assert_array_equal(apart[1], together[1][chosen])
    alone = jax.jit(functools.partial(augment, config=ON), compiler_options=COMPILE_FAST)(sample_keys[5], images[5], labels[5])
    np.testing.assert_allclose(alone[0], together[0][5], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(alone[1], together[1][5])


def test_the_same_key_repeats_and_another_key_differs():
    sample_keys = keys(8).at[1].set(keys(8)[0])
    results, _ = apply(ON, sample_keys, repeated(noise_images(1)[0], 8), random_labels(8))
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_raw_and_typed_keys_agree():
    config, images = only(flip=True, brightness=0.3, noise_probability=1.0), noise_images(4)
    raw, _ = apply(config, jax.random.key_data(keys(4)), images)
    np.testing.assert_array_equal(raw, apply(config, keys(4), images)[0])


def test_without_labels_the_image_is_the_same_and_no_labels_come_back():
    images, labels = noise_images(8), random_labels(8)
    without, nothing = apply(ON, keys(8), images, None)
    np.testing.assert_allclose(without, apply(ON, keys(8), images, labels)[0], rtol=0, atol=1e-4)
    assert nothing is None


def test_switching_one_transform_off_leaves_the_draws_of_the_others():
    images = noise_images(4)
    noisy, _ = apply(only(noise_probability=1.0), keys(4), images)
    both, _ = apply(only(noise_probability=1.0, brightness=0.3), keys(4), images)
    brighter, _ = apply(only(brightness=0.3), keys(4), images)
    np.testing.assert_allclose(both - noisy, brighter - np.asarray(images), atol=1e-6)
