"""ActiveLearningDataset and its pool."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from regional_al.data import ActiveLearningDataset
from regional_al.errors import ConfigError, DataError, WorkDirError
from regional_al.store.labels import LabelStore
from regional_al.types import ImageAnswer

CLASSES = np.arange(256) < 3
KEYS = [f"s/{i}" for i in range(4)]


class Plain(Dataset):
    """Four images of 2 x 2; masks that must never be seen (77)."""

    metainfo = {"classes": ("a", "b", "c")}  # noqa: RUF012

    def __init__(self):
        self.initialised = 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((3, 2, 2), float(index)), torch.full((2, 2), 77), f"name{index}"

    def full_init(self):
        self.initialised += 1

    def get_data_info(self, index):
        return {"index": index}


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "labels")


def put(store, key, labels, round_=0):
    labels = np.array(labels, dtype=np.uint8)
    store.write(ImageAnswer(key, labels, labels != 200), round_)  # 200: not answered


def test_only_images_with_trainable_labels_enter(store):
    put(store, "s/1", [[0, 255], [200, 200]])
    put(store, "s/2", [[255, 255], [255, 255]])  # annotated, all void
    put(store, "s/3", [[2, 2], [2, 7]])
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    assert len(data) == data.n_labelled == 2
    assert data.n_unlabelled == 2
    assert data.labelled.tolist() == [False, True, False, True]
    image, mask, name = data[0]
    assert image[0, 0, 0] == 1
    assert name == "name1"
    assert mask.dtype == torch.int64
    assert mask.tolist() == [[0, 255], [255, 255]]
    assert data[1][1].tolist() == [[2, 2], [2, 255]]  # 7 is not trainable
    assert data[-1][2] == "name3"
    with pytest.raises(IndexError):
        data[2]
    assert data.pool.keys == ["s/0", "s/1"]  # s/2 and s/3 are completely annotated
    assert [data.pool.index_of(i) for i in range(2)] == [0, 1]
    assert data.pool[1][1].tolist() == [[77, 77], [77, 77]]
    with pytest.raises(IndexError):
        data.pool[2]


def test_refresh_after_a_query(store):
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    assert len(data) == 0
    assert len(data.pool) == 4
    put(store, "s/2", [[1, 1], [1, 1]])
    data.refresh()
    assert data.labelled.tolist() == [False, False, True, False]
    assert data.pool.keys == ["s/0", "s/1", "s/3"]


def test_label_counts_in_the_pool_before_the_call(store):
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    data.label(1, np.array([[0, 1], [2, 0]]))
    assert data.pool.keys == ["s/0", "s/2", "s/3"]
    data.current_round = 4
    data.label([1, 2], torch.tensor([[[0, 255], [255, 255]], [[1, 1], [1, 1]]]))
    assert store.annotated("s/2").tolist() == [[5, 0], [0, 0]]
    assert store.annotated("s/3").tolist() == [[5, 5], [5, 5]]
    assert data.pool.keys == ["s/0", "s/2"]
    assert data.n_labelled == 3


def test_label_by_an_oracle(store):
    truth = np.array([[0, 255], [1, 2]], np.uint8)
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES, oracle=lambda i: truth)
    data.label([0, 2])
    data.label(np.int64(0), round=3)
    assert data.labelled.tolist() == [True, True, True, False]
    assert store.annotated("s/0").tolist() == [[1, 1], [1, 1]]
    assert store.annotated("s/1").tolist() == [[4, 4], [4, 4]]
    assert data.pool.keys == ["s/3"]


def test_label_refusals(store):
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    with pytest.raises(DataError, match="oracle"):
        data.label(0)
    with pytest.raises(DataError, match="shape"):
        data.label(0, np.zeros((2, 2, 3)))
    with pytest.raises(DataError, match=r"-1\.\.0"):
        data.label(0, np.array([[-1, 0]]))
    with pytest.raises(DataError, match="2 indices"):
        data.label([0, 1], [np.zeros((2, 2))])
    with pytest.raises(IndexError):
        data.label(4, np.zeros((2, 2)))
    data.label(0, np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"0\.png is \(3, 2\), the mask of sample 0 is \(2, 2\)"):
        data[0]


def test_delegation(store):
    put(store, "s/2", [[1, 1], [1, 1]])
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    assert data.metainfo["classes"] == ("a", "b", "c")
    data.full_init()
    assert data.dataset.initialised == 1
    assert data.get_data_info(0) == {"index": 2}
    assert not hasattr(data, "get_cat_ids")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = data.nonsense


def test_special_methods_of_the_wrapped_set_are_not_used(store):
    """`Subset.__getitems__` would hand the DataLoader samples of the unlabeled images."""
    put(store, "s/2", [[1, 1], [1, 1]])
    data = ActiveLearningDataset(Subset(Plain(), range(4)), store, KEYS, CLASSES)
    (batch,) = DataLoader(data, batch_size=4)
    assert list(batch[2]) == ["name2"]


def test_half_made_copies_do_not_recurse():
    with pytest.raises(AttributeError, match="anything"):
        _ = ActiveLearningDataset.__new__(ActiveLearningDataset).anything


def test_an_engine_supplies_inject(store):
    put(store, "s/3", [[1, 1], [1, 1]])
    data = ActiveLearningDataset(
        Plain(), store, KEYS, CLASSES, inject=lambda dataset, i, path: (dataset, i, path)
    )
    assert data[0] == (data.dataset, 3, store.path("s/3"))


def test_numpy_masks_stay_numpy(store):
    put(store, "s/0", [[1, 200]])
    data = ActiveLearningDataset([("i", np.zeros((1, 2)))], store, ["s/0"], CLASSES)
    assert isinstance(data[0][1], np.ndarray)
    assert data[0][1].tolist() == [[1, 255]]


def test_bad_keys(store):
    with pytest.raises(DataError, match="3 keys"):
        ActiveLearningDataset(Plain(), store, KEYS[:3], CLASSES)
    with pytest.raises(DataError, match="'s/0'"):
        ActiveLearningDataset(Plain(), store, [*KEYS[:3], "s/0"], CLASSES)


def test_copies(store):
    put(store, "s/1", [[0, 1], [1, 1]])
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert other.dataset is not data.dataset
        assert other[0][1].tolist() == [[0, 1], [1, 1]]
        assert other.pool.keys == ["s/0", "s/2", "s/3"]


@pytest.mark.slow
def test_spawned_workers(store):
    put(store, "s/1", [[0, 1], [1, 1]])
    put(store, "s/3", [[2, 2], [2, 2]])
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    loader = DataLoader(data, batch_size=2, num_workers=1, multiprocessing_context="spawn")
    (batch,) = loader
    assert batch[1].tolist() == [[[0, 1], [1, 1]], [[2, 2], [2, 2]]]


def test_state(store):
    put(store, "s/1", [[0, 1], [1, 1]])
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    data.current_round = 2
    state = json.loads(json.dumps(data.state_dict()))
    other = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    other.load_state_dict(state)
    assert other.current_round == 2
    assert other.labelled.tolist() == data.labelled.tolist()
    store.drop_rounds_from(0)
    with pytest.raises(WorkDirError, match="'s/1'"):
        other.load_state_dict(state)


def test_steps_and_what_baal_calls_things(store):
    truth = np.array([[0, 255], [1, 2]], np.uint8)
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES, oracle=lambda i: truth)
    assert data.current_al_step == 0
    assert data.labelled_map.tolist() == [0, 0, 0, 0]
    data.label(2)
    data.current_round = 3
    data.label(0)
    put(store, "s/3", [[255, 255], [255, 255]], round_=3)  # answered, but no class
    data.refresh()
    assert data.labelled_map.tolist() == [4, 0, 1, 0]
    assert data.current_al_step == 4
    assert [data.is_labelled(i) for i in range(4)] == [True, False, True, False]
    assert not data.can_label
    assert data.get_raw(1)[2] == "name1"
    assert [sample[2] for sample in data] == ["name0", "name2"]
    assert next(iter(data))[1].tolist() == truth.tolist()
    data.reset_labelled()
    assert (len(data), len(data.pool), data.current_al_step) == (0, 4, 0)


def test_an_image_labelled_again_carries_its_last_round(store):
    data = ActiveLearningDataset(Plain(), store, KEYS, CLASSES)
    data.label(1, np.array([[0, 255], [255, 255]]))
    data.label(1, np.array([[255, 1], [255, 255]]), round=6)
    assert data.labelled_map.tolist() == [0, 7, 0, 0]
    assert store.rounds_of("s/1") == [0, 6]
    assert store.rounds_of("s/0") == []


def test_labels_at_random_are_seeded_and_go_on(store, tmp_path):
    truth = np.zeros((2, 2), np.uint8)

    def fresh(name, **more):
        return ActiveLearningDataset(
            Plain(), LabelStore(tmp_path / name), KEYS, CLASSES, oracle=lambda i: truth, **more
        )

    one, other = fresh("a", random_state=5), fresh("b", random_state=5)
    one.label_randomly(2)
    other.label_randomly(2)
    assert one.labelled.tolist() == other.labelled.tolist()
    assert one.n_labelled == 2
    one.label_randomly()
    resumed = fresh("b", random_state=0)
    resumed.load_state_dict(json.loads(json.dumps(other.state_dict())))
    resumed.label_randomly()
    assert resumed.labelled.tolist() == one.labelled.tolist()
    firsts = set()
    for seed in range(8):
        drawn = fresh(f"seed{seed}", random_state=seed)
        drawn.label_randomly()
        firsts.add(tuple(drawn.labelled))
    assert len(firsts) > 1
    with pytest.raises(DataError, match=r"label_randomly\(2\), but the pool has 1"):
        one.label_randomly(2)


def test_the_pools_own_view(store):
    data = ActiveLearningDataset(
        Plain(),
        store,
        KEYS,
        CLASSES,
        pool_specifics={"initialised": 9},
        make_unlabelled=lambda sample: sample[0],
    )
    assert torch.equal(data.pool[1], torch.full((3, 2, 2), 1.0))
    assert data.pool.dataset.initialised == 9
    assert data.dataset.initialised == 0
    put(store, "s/1", [[0, 1], [1, 1]])
    data.refresh()
    assert len(data[0]) == 3  # labelled samples are whole
    wrong = ActiveLearningDataset(Plain(), store, KEYS, CLASSES, pool_specifics={"transform": 1})
    with pytest.raises(ConfigError, match="Plain has no attribute 'transform'"):
        _ = wrong.pool
