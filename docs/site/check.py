"""What mkdocs built: every local link and anchor resolves, and a page asks no other host for anything.

A link that a reader may click on can lead anywhere; a script, a style, a font or a picture can not.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "audio": "src",
    "video": "src",
    "link": "href",
}
"""Attributes whose address is fetched when a page is shown."""
_REMOTE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
_STYLE = re.compile(r"url\(\s*['\"]?([^'\")\s]+)|@import\s+['\"]([^'\"]+)")
_ROOTED = "404.html"
"""Served for any address, so its links begin at the site's root."""


class _Page(HTMLParser):
    """Addresses and anchors of one page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors = {""}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what a tag names, links to, or loads."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loaded += _in_style(given.get("style", ""))


def faults(site: Path) -> list[str]:
    """Return a line for every fault; none: the site is as it should be."""
    read = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if read else [f"there is no page in {site}"]
    for path, page in read.items():
        name = path.relative_to(site).as_posix()
        found += [f"{name} loads {one}" for one in page.loaded if _REMOTE.match(one)]
        if name != _ROOTED:
            local = (one for one in (*page.links, *page.loaded) if not _is_elsewhere(one))
            found += [f"{name}: {fault}" for one in local if (fault := _unresolved(one, path, read))]
    for path in sorted(site.rglob("*.css")):
        remote = (one for one in _in_style(path.read_text("utf-8")) if _REMOTE.match(one))
        found += [f"{path.relative_to(site).as_posix()} loads {one}" for one in remote]
    return found


def _is_elsewhere(address: str) -> bool:
    return bool(_REMOTE.match(address) or urlsplit(address).scheme)


def _in_style(text: str) -> Iterator[str]:
    return (match[1] or match[2] for match in _STYLE.finditer(text))


def _unresolved(address: str, path: Path, read: dict[Path, _Page]) -> str | None:
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return f"{address} leads to no file"
    if target in read and unquote(parts.fragment) not in read[target].anchors:
        return f"{address} leads to no anchor"
    return None
