"""``python -m mats_ray`` is the ``mats`` command."""

import sys

from mats_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
