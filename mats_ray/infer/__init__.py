"""One pipeline behind the command line, the batch job and the server."""
