"""Caption or question every audio file of a folder or bucket.

ray job submit --working-dir . -- python jobs/caption.py --model DIR --audio s3://... --out s3://...
"""

import sys

from mats_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["caption", *sys.argv[1:]]))
