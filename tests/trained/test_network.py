"""A trained network is the same whether it comes from the folder of its run or from the one that was exported."""

import dataclasses
import pickle

import numpy as np
import pytest
from tiny import counted, experiment

import yseg
from yseg.config import STATISTICS, InputError
from yseg.data.box import Box, sections_of
from yseg.data.domain import open_domain
from yseg.data.grey_levels import statistics
from yseg.runs.folder import load_state, read_config
from yseg.trained.network import TrainedNetwork
from yseg.training.state import inference_variables


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The workdir of a run."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    yseg.train(experiment(), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def volume(run):
    """The target, which is a phantom."""
    config = read_config(run)
    return open_domain(config.target, config.sampling, "--config.target", with_labels=False)


def predicted(network, volume, region=None):
    """The probabilities of a region, float32 [z, y, x, class]: its blocks are whole sections."""
    return np.concatenate([values for _, values in network.predict(volume, [region or Box.whole(volume.image.shape)])])


@pytest.mark.parametrize("name", STATISTICS)
def test_a_run_and_its_export_predict_the_same_bits(run, volume, name, tmp_path):
    ours = TrainedNetwork.of_run(run).with_statistics(name)
    its = TrainedNetwork.of_folder(yseg.export(run, tmp_path / "model", batch_statistics=name))
    assert its.statistics == name
    expected = predicted(ours, volume)
    assert expected.std() > 0
    np.testing.assert_array_equal(predicted(its, volume), expected)
    np.testing.assert_array_equal(predicted(TrainedNetwork.of_folder(yseg.export(ours, tmp_path / "again")), volume), expected)


def test_it_holds_the_variables_of_the_last_checkpoint_by_their_statistics(run):
    network, config = yseg.load_run(run), read_config(run)
    state = load_state(run, config)
    assert (network.config, network.statistics, network.step, network.reports) == (config, "target", 4, run)
    assert set(network.variables) == set(STATISTICS)
    for name in STATISTICS:
        np.testing.assert_equal(network.variables[name], inference_variables(state, name))


def test_other_statistics_are_chosen_by_their_name_old_or_new(run, volume):
    network = yseg.load_run(run)
    assert network.with_statistics(None) is network
    assert network.with_statistics("source").statistics == network.with_statistics("training").statistics == "training"
    found = {name: predicted(network.with_statistics(name), volume) for name in ("source", *STATISTICS)}
    np.testing.assert_array_equal(found["source"], found["training"])
    np.testing.assert_array_equal(found["target"], predicted(network, volume))
    assert all((found["training"] != found[name]).any() for name in ("target", "mixed"))
    with pytest.raises(InputError, match="--batch_statistics=both: must be one of training, target, mixed"):
        network.with_statistics("both")


def test_a_released_network_refuses_statistics_that_it_does_not_hold(run, tmp_path):
    network = yseg.load_model(yseg.export(run, tmp_path / "model", batch_statistics="mixed"))
    assert network.with_statistics("mixed").statistics == "mixed"
    for name in ("training", "source", "target"):
        with pytest.raises(InputError, match=f"^--batch_statistics={name}: must be one of mixed, which this network has$"):
            network.with_statistics(name)
        with pytest.raises(InputError, match=f"--batch_statistics={name}"):
            yseg.predict(network, np.zeros((64, 64), np.uint8), batch_statistics=name)


def test_the_training_statistics_of_a_released_network_go_by_both_names(run, tmp_path):
    network = yseg.load_model(yseg.export(run, tmp_path / "model", batch_statistics="source"))
    assert network.statistics == network.config.model.batch_statistics == "training"
    assert network.with_statistics("source").statistics == network.with_statistics("training").statistics == "training"


def test_more_views_are_the_only_thing_that_they_change(run, volume):
    network = yseg.load_run(run)
    assert network.with_views(None) is network
    augmented, plain = network.with_views(True), network.with_views(True).with_views(False)
    assert augmented.config.inference.test_time_augmentation
    assert plain == network
    assert dataclasses.replace(augmented, config=network.config) == network
    np.testing.assert_array_equal(predicted(plain, volume), predicted(network, volume))
    assert (predicted(augmented, volume) != predicted(network, volume)).any()


def test_mean_and_deviation_of_a_volume_are_read_once_for_many_regions(run, volume):
    array = volume.image.read().result()
    given, (store, reads) = yseg.load_run(run), counted(array)
    alone = dataclasses.replace(given.config.inference, depth_nm=0.0)  # or its neighbours would be read
    network = dataclasses.replace(given, config=dataclasses.replace(given.config, inference=alone))
    counting = dataclasses.replace(volume, image=store)
    assert counting.statistics == statistics(volume.image)
    assert len(reads) == len(array)  # every section, once
    box = Box.whole(array.shape)
    for numbers in ((0, 2), (1,), (1, 0)):
        del reads[:]
        parts = [sections_of(box, number, number + 1) for number in numbers]
        blocks = dict(network.predict(counting, parts))
        assert len(reads) == len(numbers)  # what is segmented, and nothing for the statistics
        for part in parts:
            np.testing.assert_array_equal(blocks[part], predicted(network, volume, part))


@pytest.mark.parametrize(("load", "flag"), [(yseg.load_run, "--workdir"), (yseg.load_model, "--model")])
def test_a_folder_that_holds_none_is_named_by_the_flag_that_gave_it(load, flag, tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=f"^{flag}={folder}: ") as raised:
            load(folder)
        assert "\n" not in str(raised.value)


def test_plausible_objects_need_a_prior_which_a_run_and_its_released_model_have(run, volume, tmp_path):
    network = yseg.load_run(run)
    plausible = network.with_plausible_objects(True)
    assert not network.config.inference.plausible_objects
    before = predicted(network, volume)[..., 1]
    strict = dataclasses.replace(plausible, prior=plausible.prior._replace(least_area_nm2=1e9))  # nothing is as large
    after = predicted(strict, volume)[..., 1]
    assert ((before >= 0.5) & (after == 0)).any()
    released = yseg.load_model(yseg.export(run, tmp_path / "model", plausible_objects=True))
    assert released.prior == network.prior
    assert released.config.inference == plausible.config.inference
    with pytest.raises(yseg.InputError, match=r"plausible_objects=True: must be False"):
        dataclasses.replace(network, prior=None).with_plausible_objects(True)
    with pytest.raises(yseg.InputError, match=r"plausible_objects=True: must be False"):
        dataclasses.replace(plausible, prior=None).predict(volume, [Box.whole(volume.image.shape)])


def test_a_network_compiles_once_and_what_is_compiled_does_not_go_to_other_processes(run):
    network = yseg.load_run(run)
    assert network.predictor() is network.predictor()
    copy = pickle.loads(pickle.dumps(network))
    tile = np.random.default_rng(0).normal(size=(1, 48, 48, 1)).astype(np.float32)
    np.testing.assert_array_equal(copy.predictor()(tile, (0.0, 1.0)), network.predictor()(tile, (0.0, 1.0)))
