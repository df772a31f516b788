"""HTTP in front of the service: the FastAPI app, its middleware, routes and wire schemas, and the page."""
