"""The descriptors of a process go to a file, and are themselves again afterwards."""

import os
import subprocess
import sys

import pytest

from mats_ray.redirect import STDERR, STDOUT, redirected


def write():
    os.write(STDERR, b"err\n")
    subprocess.run([sys.executable, "-c", "print('child')"], check=True)


def test_what_the_process_and_its_children_write_goes_to_the_file(tmp_path, capfd):
    with (tmp_path / "log").open("wb") as file, redirected((STDOUT, STDERR), file):
        write()

    assert (tmp_path / "log").read_text() == "err\nchild\n"
    assert capfd.readouterr() == ("", "")


def test_the_other_descriptor_stays(tmp_path, capfd):
    with (tmp_path / "log").open("wb") as file, redirected([STDERR], file):
        write()

    assert (tmp_path / "log").read_text() == "err\n"
    assert capfd.readouterr() == ("child\n", "")


def test_they_are_as_before_after_an_error(tmp_path, capfd):
    def fail():
        with (tmp_path / "log").open("wb") as file, redirected((STDOUT, STDERR), file):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    write()

    assert capfd.readouterr() == ("child\n", "err\n")
