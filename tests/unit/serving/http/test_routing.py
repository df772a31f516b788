"""Routes are matched as the router matches them, below any prefix."""

import pytest

from mats_ray.serving.http.middleware import RouteSet, route_of


def scope_of(path, *, root_path="", kind="http"):
    return {"type": kind, "method": "GET", "path": path, "root_path": root_path, "headers": []}


ROUTES = RouteSet("/", "/health", "/page/{name:path}")


@pytest.mark.parametrize("path", ["/", "/health", "/page/a/b.js", "/page/../v1/models"])
@pytest.mark.parametrize("prefix", ["", "/mats", "/v1", "/health"])
def test_a_route_is_found_below_any_prefix(path, prefix):
    assert ROUTES.matches(scope_of(prefix + path, root_path=prefix))
    assert ROUTES.matches(scope_of(prefix + path, root_path=prefix) | {"method": "DELETE"})


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/health/", ""),
        ("//health", ""),
        ("/HEALTH", ""),
        ("/health%2f", ""),
        ("/v1/../health", ""),
        ("/v1/health", ""),
        ("/healthy", ""),
        ("/mats/health", ""),
        ("/mats/v1/models", "/mats"),
        ("/mats//health", "/mats"),
        ("/matshealth", "/mats"),
        ("/mats", "/mats"),
        ("", ""),
    ],
)
def test_no_other_path_matches(path, prefix):
    assert not ROUTES.matches(scope_of(path, root_path=prefix))


def test_a_websocket_is_none_of_them():
    assert not ROUTES.matches(scope_of("/health", kind="websocket"))


def test_a_request_without_a_matching_route_has_none():
    assert route_of(scope_of("/health")) is None


@pytest.mark.parametrize("root_path", ["/mats", "/a/b"])
def test_only_the_prefix_itself_is_redirected(make_client, root_path):
    client = make_client(root_path=root_path)

    found = client.get(root_path, follow_redirects=False)

    assert found.headers["location"] == f"./{root_path.rpartition('/')[2]}/"
    assert client.get(f"{root_path}x", follow_redirects=False).status_code == 404
    assert make_client(root_path=root_path, page=False).get(root_path).status_code == 404
