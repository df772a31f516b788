"""Captioning a folder or bucket: the batch job, from a listing to rows.

    list files, plan prompts -> [decode: actors] -> [encode and answer: actors] -> driver: ledger, part files

``job`` plans it, ``on_ray`` runs it. ``decode`` turns files into clips, ``encode`` clips into CLAP embeddings
(``pooling`` joins those of one file), ``answer`` embeddings into rows. ``prompts`` says which prompts a file
has, ``rows`` what a row looks like, ``ledger`` which rows are missing, ``output`` where they are written.
"""
