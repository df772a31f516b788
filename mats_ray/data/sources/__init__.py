"""Published annotation files to rows: one file per raw format, one table (``registry``) of all of them."""
