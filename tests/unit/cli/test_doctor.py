"""``mats doctor``: one line a check, 1 if one fails."""

from mats_ray.cli import doctor
from mats_ray.cli.main import main


def test_a_fit_machine_passes(capsys, tmp_path):
    assert main(["doctor", "--path", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "ok    ray 2.60.0" in output
    assert f"{tmp_path} can be written to" in output


def test_a_missing_package_fails(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("no-such-package",))

    assert main(["doctor", "--path", str(tmp_path)]) == 1
    assert "FAIL  no-such-package is not installed" in capsys.readouterr().out


def test_a_folder_that_is_not_there_fails_in_every_check_of_it(capsys, tmp_path):
    path = tmp_path / "none"

    assert main(["doctor", "--path", str(path)]) == 1
    output = capsys.readouterr().out.splitlines()
    assert f"FAIL  disk at {path}: No such file or directory" in output
    assert f"FAIL  {path} cannot be written to: No such file or directory" in output
