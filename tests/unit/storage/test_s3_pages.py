"""Pages of a listing as stores write them: namespaces, encodings, missing fields, errors with status 200."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mats_ray.errors import StorageError
from mats_ray.storage import retries
from mats_ray.storage.s3_pages import read_page, read_pages

SPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def contents(key, size="<Size>7</Size>", etag="<ETag>&quot;abc&quot;</ETag>"):
    owner = "<Owner><ID>x</ID><DisplayName>y</DisplayName></Owner>"
    return f"<Contents><Key>{key}</Key>{etag}{size}{owner}</Contents>"


@pytest.fixture
def answers(monkeypatch):
    """A server that gives these answers, one after the other, and notes the queries."""
    bodies, queries = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            queries.append(self.path)
            body = f'<?xml version="1.0"?>{bodies.pop(0)}'.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0)
    yield bodies, queries
    server.shutdown()
    thread.join()
    server.server_close()


def result(*parts, space=SPACE):
    return f"<ListBucketResult{space}>{''.join(parts)}</ListBucketResult>"


@pytest.mark.parametrize("space", [SPACE, ""], ids=["namespace", "none"])
def test_objects_have_their_names_sizes_and_etags(answers, space):
    bodies, _ = answers
    bodies.append(result(contents("in/a.wav"), contents("in/b &amp; c.wav"), space=space))

    page = read_page("s3://sounds/in/")

    assert page.objects.to_pylist() == [
        {"path": "s3://sounds/in/a.wav", "size": 7, "etag": "abc"},
        {"path": "s3://sounds/in/b & c.wav", "size": 7, "etag": "abc"},
    ]
    assert (page.prefixes, page.token) == ((), None)


def test_names_are_decoded_where_the_store_says_that_it_encodes(answers):
    bodies, _ = answers
    bodies += [result("<EncodingType>url</EncodingType>", contents("in/a+b%2B%C3%BC%01.wav"))]
    bodies += [result(contents("in/a+b%2B.wav"))]

    assert read_page("s3://sounds/in/").objects["path"].to_pylist() == ["s3://sounds/in/a b+ü\x01.wav"]
    assert read_page("s3://sounds/in/").objects["path"].to_pylist() == ["s3://sounds/in/a+b%2B.wav"]


def test_a_field_that_is_missing_moves_no_other(answers):
    bodies, _ = answers
    bodies.append(result(contents("a", size=""), contents("b"), contents("c", etag="")))

    rows = read_page("s3://sounds/").objects.to_pylist()

    assert [(row["size"], row["etag"]) for row in rows] == [(0, "abc"), (7, "abc"), (7, "")]


def test_folders_of_a_level_and_the_next_page(answers):
    bodies, queries = answers
    folders = "<CommonPrefixes><Prefix>in/d/</Prefix></CommonPrefixes>"
    bodies.append(result(folders, "<NextContinuationToken>to ken</NextContinuationToken>"))
    bodies.append(result(contents("in/z")))

    page = read_page("s3://sounds/in/", delimiter=True, start_after="s3://sounds/in/c")
    read_page("s3://sounds/in/", token=page.token)

    assert (page.prefixes, page.token, len(page.objects)) == (("s3://sounds/in/d/",), "to ken", 0)
    assert "delimiter=%2F" in queries[0] or "delimiter=/" in queries[0]
    assert "start-after=in" in queries[0]
    assert "continuation-token=to%20ken" in queries[1]


def test_pages_are_joined_until_there_are_enough(answers):
    bodies, queries = answers
    more = "<NextContinuationToken>t</NextContinuationToken>"
    bodies += [result(contents(name), more) for name in "ab"] + [result(contents("c"))]

    page = read_pages("s3://sounds/", num_pages=2)

    assert (len(page.objects), page.token, len(queries)) == (2, "t", 2)
    assert read_pages("s3://sounds/", token="t", num_pages=5).token is None


def test_an_error_with_status_200_is_tried_again_and_then_named(answers):
    bodies, _ = answers
    error = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
    bodies += [error, result(contents("a"))]
    assert len(read_page("s3://sounds/").objects) == 1

    bodies += [error] * 20
    with pytest.raises(StorageError, match=r"^s3://sounds/ cannot be listed: .*internal error"):
        read_page("s3://sounds/")
