"""The pages: links resolve on the site and in the repository, and no page loads anything from another host.

``make docs`` builds the site; here are the parts of it that need no mkdocs, and the check it ends with.
"""

import re
import subprocess
import unicodedata

import pytest
import yaml

from docs.site.assemble import REFERENCE, assemble, links, pages
from docs.site.check import faults
from tests.architecture.source import ROOT

PAGES = pages(ROOT)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def headings(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    return [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.+)$", text, re.M)]


def on_github(heading):
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").strip().lower()).replace(" ", "-")


def on_the_site(heading):
    """The anchor that Python-Markdown makes of it."""
    plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


@every_page
def test_links_and_anchors_resolve(page):
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{path} leads to no file"
        if anchor:
            titles = headings(target)
            assert anchor in map(on_github, titles), f"{path}#{anchor} on GitHub"
            assert anchor in map(on_the_site, titles), f"{path}#{anchor} on the site"


@every_page
def test_links_to_other_hosts_are_addresses(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)

    for target in re.findall(r"\]\((\w+:[^)\s]*)\)", text):
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]+(/[^\s]*)?", target), target


@every_page
def test_a_list_or_table_stands_apart_so_that_both_renderers_see_it(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for kind, line in (("list", r"(?:-|\d+\.) "), ("table", r"\|")):
        glued = re.search(rf"^(?!(?:-|\d+\.) |\||\s|#|<!--).+\n{line}.*$", text, re.M)
        assert not glued, f"a {kind} without an empty line before it: {glued[0] if glued else ''}"


def nav_of(tree):
    for entry in tree:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        yield from nav_of(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation_once():
    nav = list(nav_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))

    assert sorted(nav) == sorted([*(page.relative_to(ROOT).as_posix() for page in PAGES), *REFERENCE])


def test_the_site_is_strict_and_asks_no_other_host():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    assert site["theme"]["font"] is False
    assert not {"repo_url", "site_url", "extra_javascript", "extra_css"} & set(site)
    assert {"warn"} == {level for part in site["validation"].values() for level in part.values()}
    assert "mermaid" not in " ".join(page.read_text() for page in PAGES)
    assert re.search(r"^\t.*\$\(TOOLS\)/bin/mkdocs build .*--strict$", (ROOT / "Makefile").read_text(), re.M)


def test_the_tree_has_all_pages_and_what_they_link_to(tmp_path):
    target = tmp_path / "pages"
    target.mkdir()
    (target / "old.md").write_text("a page that is gone")

    assemble(ROOT, target)

    assert not (target / "old.md").exists()
    for page in PAGES:
        copy = target / page.relative_to(ROOT)
        assert copy.read_text() == page.read_text()
        for path, _ in links(page):
            assert (copy.parent / path).is_file() if path else True
    for name in REFERENCE:
        assert (target / name).read_text().startswith("# ")


def test_a_link_to_a_file_that_is_not_there_is_an_error(tmp_path):
    (tmp_path / "README.md").write_text("[configuration](configs/gone.yaml)")

    with pytest.raises(FileNotFoundError, match="gone"):
        assemble(tmp_path, tmp_path / "pages")


def test_links_in_code_are_none(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("`[a](b.md)`\n\n```text\n[c](d.md)\n```\n\n[e](f.md#g) ![h](i.svg) [j](https://k.org)")

    assert list(links(page)) == [("f.md", "g"), ("i.svg", "")]


PAGE = '<html><head>{head}</head><body><h1 id="top">A page</h1>{body}</body></html>'


@pytest.fixture
def site(tmp_path):
    """Write a site of one page and a picture, and return what is wrong with it."""

    def built(body="", head="", css=""):
        (tmp_path / "index.html").write_text(PAGE.format(head=head, body=body))
        (tmp_path / "a.svg").write_text("<svg/>")
        (tmp_path / "style.css").write_text(css)
        return faults(tmp_path)

    return built


@pytest.mark.parametrize(
    "body",
    [
        '<a href="#top">up</a><a href="index.html#top">up</a><img src="a.svg">',
        '<a href="https://arxiv.org/abs/2502.13433">out</a><a href="mailto:a@b.org">mail</a>',
        '<img src="data:image/png;base64,AAAA">',
    ],
)
def test_a_sound_page_has_no_fault(site, body):
    assert site(body, head='<link rel="stylesheet" href="style.css">', css="a{background:url(a.svg)}") == []


@pytest.mark.parametrize(
    ("body", "head", "css"),
    [
        ('<script src="https://unpkg.com/a.js"></script>', "", ""),
        ("", '<link rel="stylesheet" href="https://fonts.example.org/a.css">', ""),
        ("", '<link rel="preconnect" href="//fonts.example.org">', ""),
        ('<img src="http://example.org/a.png">', "", ""),
        ('<p style="background: url(https://example.org/a.png)">', "", ""),
        ("", "", "@import 'https://example.org/a.css';"),
        ("", "", "@font-face{src:url('//example.org/a.woff2')}"),
    ],
)
def test_anything_loaded_from_another_host_is_a_fault(site, body, head, css):
    found = site(body, head, css)

    assert len(found) == 1
    assert " loads " in found[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('<a href="gone.html">a</a>', "gone.html leads to no file"),
        ('<img src="gone.svg">', "gone.svg leads to no file"),
        ('<a href="#gone">a</a>', "#gone leads to no anchor"),
        ('<a href="index.html#gone">a</a>', "index.html#gone leads to no anchor"),
    ],
)
def test_a_broken_link_is_a_fault(site, body, words):
    assert site(body) == [f"index.html: {words}"]


def test_a_folder_without_pages_is_a_fault(tmp_path):
    assert faults(tmp_path) == [f"there is no page in {tmp_path}"]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning():
    """As CI does; installs mkdocs below ``build/`` where it is missing."""
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
