"""Exit 0 if the Ray node of this container is alive: its raylet answers on the agent's port."""

import sys
import urllib.error
import urllib.request

URL = "http://127.0.0.1:52365/api/local_raylet_healthz"
"""Where the agent of every node answers, head or worker."""


def main() -> int:
    """Ask once, and print nothing but a reason."""
    try:
        with urllib.request.urlopen(URL, timeout=5) as response:
            return 0 if b"success" in response.read() else 1
    except (urllib.error.URLError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
