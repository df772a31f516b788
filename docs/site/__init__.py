"""The documentation site: pages as they are in the repository, and reference pages made from the code.

    python -m docs.site build/pages          pages and reference in one tree, for mkdocs
    python -m docs.site --check build/site   what mkdocs made of it: links, anchors, nothing from other hosts

``make docs`` does both. The reference is never committed: the code is its only source.
"""
