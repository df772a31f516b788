"""Pictures of README from a demo's report: the modality gap as training finds it, and after noise and Santa.

    python benchmarks/demo_pictures.py out/demo/report.html docs/pictures

They are the report's own charts, with the colours of its light theme in place of the page's variables.
"""

import re
import sys
from pathlib import Path

PICTURES = {
    "gap_before.svg": "of text and audio,",
    "gap_after.svg": "of text with noise and audio after Santa,",
}
MAX_BYTES = 200_000


def main(report: Path, folder: Path) -> None:
    """Write both."""
    html = report.read_text("utf-8")
    colours = dict(re.findall(r"(--[\w-]+): (#\w+);", html.split("prefers-color-scheme: dark")[0]))
    charts = re.findall(r"<svg role=\"img\".*?</svg>", html, re.DOTALL)
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in PICTURES.items():
        (chart,) = (one for one in charts if words in one[:300])
        svg = re.sub(r"var\((--[\w-]+)\)", lambda found: colours[found[1]], chart)
        namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        svg = svg.replace("<svg ", f'<svg {namespaces} style="background: {colours["--card"]}" ', 1)
        assert len(svg) < MAX_BYTES, f"{name} has {len(svg)} bytes"
        (folder / name).write_text(svg + "\n", "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
