"""Published annotation files to rows: one file per source, and one table (``registry``) of all of them."""
