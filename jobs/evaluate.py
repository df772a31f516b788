"""Answer and score published benchmarks.

ray job submit --working-dir . -- python jobs/evaluate.py --config eval.yaml
"""

import sys

from mats_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
