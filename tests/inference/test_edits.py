"""Edits of labels: what they change, what they leave, and whom they mean nothing to."""

from argparse import ArgumentTypeError

import pytest
import torch

from vid2vid_dist.cli.generate_options import pairs
from vid2vid_dist.config.schema import DataConfig
from vid2vid_dist.data.clips import Frames
from vid2vid_dist.errors import UserError
from vid2vid_dist.inference.edits import LabelEdit
from vid2vid_dist.models.labels import instance_edges

LABELS = torch.tensor([[[[21, 21, 11, 26, 26, 26]]]], dtype=torch.uint8)
INSTANCES = torch.tensor([[[[21, 21, 11, 26001, 26001, 26002]]]], dtype=torch.int32)
FRAMES = Frames(LABELS, None, INSTANCES, ["a"])


def test_classes_become_others_all_at_once() -> None:
    edited = LabelEdit(classes=((21, 11), (11, 8))).apply(FRAMES)
    assert edited.labels.flatten().tolist() == [11, 11, 8, 26, 26, 26]
    assert FRAMES.labels.flatten().tolist() == [21, 21, 11, 26, 26, 26]


def test_regions_that_become_one_have_no_edge_between_them() -> None:
    edited = LabelEdit(classes=((21, 11),)).apply(FRAMES)
    assert edited.instances is not None
    assert edited.instances.flatten().tolist() == [11, 11, 11, 26001, 26001, 26002]
    assert instance_edges(edited.instances).flatten().tolist() == [False, False, True, True, True, True]


def test_one_instance_gets_another_label_and_stays_an_instance() -> None:
    edit = LabelEdit(classes=((26, 27),), instances=((26002, 28),))
    edited = edit.apply(FRAMES)
    assert edited.labels.flatten().tolist() == [21, 21, 11, 27, 27, 28]
    assert edited.instances is not None
    assert torch.equal(edited.instances, INSTANCES)
    assert str(edit) == "label 26 becomes 27, instance 26002 becomes label 28"


def test_without_instance_maps() -> None:
    edited = LabelEdit(classes=((21, 11),)).apply(Frames(LABELS, None, None, ["a"]))
    assert edited.instances is None
    assert edited.labels.flatten().tolist() == [11, 11, 11, 26, 26, 26]


@pytest.mark.parametrize(("edit", "data", "message"), [
    (LabelEdit(classes=((1, 2),)), DataConfig(label_nc=0), "need a model that reads label maps"),
    (LabelEdit(classes=((1, 6),)), DataConfig(label_nc=6), r"label 6 of an edit is not in 0\.\.5"),
    (LabelEdit(instances=((900, 7),)), DataConfig(label_nc=6, use_instance=True), r"label 7 .* not in 0\.\.5"),
    (LabelEdit(instances=((900, 1),)), DataConfig(label_nc=6), "needs a model that reads instance maps"),
])
def test_edits_that_mean_nothing(edit: LabelEdit, data: DataConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        edit.check(data)
    LabelEdit().check(data)


def test_how_edits_are_written() -> None:
    assert pairs("21=11,22=8") == ((21, 11), (22, 8))
    for text in ("21", "21=", "a=1", "-1=2", ""):
        with pytest.raises(ArgumentTypeError, match="write OLD=NEW, two whole numbers"):
            pairs(text)
    with pytest.raises(ArgumentTypeError, match="an id is given twice"):
        pairs("21=11,21=8")
