"""ray job submit --working-dir . -- python jobs/prepare.py --config configs/mats_llama_7b.yaml."""

import sys

from mats_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
