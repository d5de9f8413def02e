"""Downloads a file from a Python package index by its simple API (https://peps.python.org/pep-0503/), without pip."""

import os
import re
import time
from html import unescape
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import HTTPBasicAuthHandler, HTTPPasswordMgrWithPriorAuth, OpenerDirector, Request, build_opener

PYPI = "https://pypi.org/simple"
# As pip and uv read them. uv lets a name stand before the URL: NAME=URL.
VARIABLES = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL")
ACCEPT = "application/vnd.pypi.simple.v1+html, text/html;q=0.9"
HREF = re.compile(r"""<a\b[^>]*?\bhref\s*=\s*["']([^"'#]+)""", re.IGNORECASE)
TIMEOUT_SECONDS = 10.0
PAUSES_SECONDS = (1.0, 3.0)  # before the second try, and the third


class DownloadError(Exception):
    """A failed download. The message says why, in one line, without a password of the index."""


def download(project: str, file: str) -> bytes:
    """The content of `file` of `project`, from the index that the environment names, or PyPI. Raises DownloadError.

    Proxies are those of the environment.
    """
    opener, index = _index()
    try:
        page, url = _get(opener, f"{index}/{project}/")
        # Without the fragment, which a proxy would be sent.
        links = (urljoin(url, unescape(link)) for link in HREF.findall(page.decode(errors="replace")))
        found = (link for link in links if unquote(urlsplit(link).path).rpartition("/")[2] == file)
        content = next((_get(opener, link)[0] for link in found), None)
    except (OSError, HTTPException, ValueError) as error:
        raise DownloadError(f"{index}: {_why(error)}") from None
    if content is None:
        raise DownloadError(f"{index}: has no {file}")
    return content


def _index() -> tuple[OpenerDirector, str]:
    """An opener that sends the index's user name and password to its host only, and the URL of the index without them."""
    variable = next(filter(os.environ.get, VARIABLES), None)
    named = re.sub(r"^[\w.-]+=", "", os.environ[variable]) if variable else PYPI
    try:
        parts = urlsplit(named)
        valid = parts.scheme in ("http", "https", "file") and (parts.port or True)
    except ValueError:
        valid = False
    if not valid:
        raise DownloadError(f"{variable} is no URL of an index")
    host = parts.netloc.rpartition("@")[2]
    passwords = HTTPPasswordMgrWithPriorAuth()
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        passwords.add_password(None, f"{parts.scheme}://{host}/", user, password, is_authenticated=True)
    return build_opener(HTTPBasicAuthHandler(passwords)), parts._replace(netloc=host).geturl().rstrip("/")


def _get(opener: OpenerDirector, url: str) -> tuple[bytes, str]:
    """The content, and its final URL. Retries, unless the server refuses."""
    for pause in (*PAUSES_SECONDS, None):
        try:
            with opener.open(Request(url, headers={"Accept": f"{ACCEPT}, */*;q=0.1"}), timeout=TIMEOUT_SECONDS) as got:
                return got.read(), got.url
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError):
                error.close()
            if pause is None or (isinstance(error, HTTPError) and error.code < 500):
                raise
            time.sleep(pause)
    raise AssertionError("the last try returns or raises")


def _why(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"{error.code} {error.reason}"
    return str(error.reason) if isinstance(error, URLError) else str(error) or type(error).__name__
