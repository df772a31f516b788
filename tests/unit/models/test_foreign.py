"""Foreign files give tensors, or an error: nothing in them is ever run."""

import os
import pickle
import tarfile

import numpy as np
import pytest
import torch

from mats_ray.errors import ModelError
from mats_ray.models.foreign import read_torch_file


class PickledCommand:
    """Pickles to a call of os.system."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


WAYS = {
    "protocol 2": {},
    "protocol 4": {"pickle_protocol": 4},
    "legacy": {"_use_new_zipfile_serialization": False},
}


@pytest.fixture(params=WAYS)
def save(request, tmp_path):
    def save(content):
        file = tmp_path / "file.pt"
        torch.save(content, file, **WAYS[request.param])
        return file

    return save


def test_tensors_and_numpy_values_are_read(save):
    content = {
        "state_dict": {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.nn.Parameter(torch.ones(2))},
        "epoch": np.int64(3),
        "lr": np.float64(0.1),
        "history": np.arange(4, dtype=np.float32),
    }

    read = read_torch_file(save(content))

    assert torch.equal(read["state_dict"]["a"], content["state_dict"]["a"])
    assert torch.equal(read["state_dict"]["b"], torch.ones(2))
    assert read["epoch"] == 3
    assert read["lr"] == 0.1
    np.testing.assert_array_equal(read["history"], np.arange(4))


def test_a_planted_os_system_is_refused(save, tmp_path):
    victim = tmp_path / "ran"
    file = save(
        {"lr": np.float64(0.1), "weight": torch.ones(2), "planted": PickledCommand(f"touch {victim}")}
    )

    with pytest.raises(ModelError, match=r"refused.*system"):
        read_torch_file(file)
    assert not victim.exists()


def test_a_torchscript_archive_is_refused(tmp_path):
    file = tmp_path / "script.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(file)

    with pytest.raises(ModelError, match="cannot be read"):
        read_torch_file(file)


def test_a_tar_archive_is_refused(tmp_path):
    (tmp_path / "\x80pickle").write_bytes(pickle.dumps(1))
    file = tmp_path / "file.pt"
    with tarfile.open(file, "w") as archive:
        archive.add(tmp_path / "\x80pickle", "storages")

    with pytest.raises(ModelError, match=r"not a file of torch\.save"):
        read_torch_file(file)


def test_a_file_of_something_else_is_refused(tmp_path):
    file = tmp_path / "file.pt"
    file.write_bytes(b"RIFF1234WAVE")

    with pytest.raises(ModelError, match=r"not a file of torch\.save"):
        read_torch_file(file)


@pytest.mark.parametrize("size", [3, 100, -30])
def test_a_cut_off_file_is_an_error_that_names_it(save, size):
    file = save({"weight": torch.ones(500)})
    file.write_bytes(file.read_bytes()[:size])

    with pytest.raises(ModelError, match=r"file\.pt"):
        read_torch_file(file)
