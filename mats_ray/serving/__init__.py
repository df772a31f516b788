"""The service, between HTTP (``http/``), audio decoding (``decoding/``) and Ray Serve (``on_ray/``)."""
