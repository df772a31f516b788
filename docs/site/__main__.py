"""``python -m docs.site``: see the package."""

import argparse
import sys
from pathlib import Path

from docs.site.assemble import ROOT, assemble
from docs.site.check import faults


def main() -> int:
    """Assemble the tree, or check the built site; 1 if something is wrong with it."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder that is made anew, or the built site")
    parser.add_argument("--check", action="store_true", help="check a built site")
    args = parser.parse_args()
    if not args.check:
        assemble(ROOT, args.folder)
        return 0
    found = faults(args.folder)
    print("\n".join(found) or f"{args.folder}/index.html: links and anchors resolve, nothing is fetched")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
