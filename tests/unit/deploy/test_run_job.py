"""A job gets the arguments of a file as they are, and ends as it would without."""

import json
import subprocess
import sys

import pytest
import yaml

ARGUMENTS = [
    "--audio=s3://bucket/a b",
    '--ask=$(id) `id` $HOME; it\'s "so"\\',
    "--ask=a\nb",
    "--ask=\u3053?",
    "",
    "yes",
]


@pytest.fixture
def run(tmp_path):
    """Run a script of some lines with arguments in a file."""

    def run_script(*lines, arguments):
        (tmp_path / "job.py").write_text("\n".join(["import json, sys", *lines]))
        (tmp_path / "arguments.yaml").write_text(yaml.safe_dump(arguments), "utf-8")
        command = [
            sys.executable,
            "-m",
            "mats_ray.deploy.run_job",
            tmp_path / "job.py",
            tmp_path / "arguments.yaml",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run_script


def test_the_arguments_are_those_of_the_file(run, tmp_path):
    done = run("if __name__ == '__main__': print(json.dumps(sys.argv))", arguments=ARGUMENTS)

    assert json.loads(done.stdout) == [str(tmp_path / "job.py"), *ARGUMENTS]


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_is_the_jobs(run, code):
    assert run(f"sys.exit({code})", arguments=[]).returncode == code
