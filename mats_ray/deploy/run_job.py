"""Run a job whose arguments are in a file: ``python -m mats_ray.deploy.run_job SCRIPT FILE``.

Kubernetes (``$(NAME)``, ``$$``), the bash of KubeRay's submitter, ``ray job submit`` and the sh of Ray's job
supervisor each read an entrypoint. What is in a file of the ConfigMap reaches the job as it was configured.
"""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml


def run(script: str, file: str) -> None:
    """Run a script as ``python SCRIPT ARGUMENT ...`` would.

    Args:
        script: Path of the job.
        file: YAML list of its arguments.
    """
    arguments: Sequence[str] = yaml.safe_load(Path(file).read_text("utf-8"))
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    run(*sys.argv[1:])
