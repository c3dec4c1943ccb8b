"""Ranges of files from web servers, over connections that are kept."""

import re
import time
from collections import defaultdict
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from urllib.parse import quote, urljoin, urlsplit

from vid2vid_dist.errors import UserError

REDIRECTS = 5
PIECE = 2**18
"""Bytes after which the time is looked at."""
SAFE = re.compile(r"[^@\s\x00-\x1f]+")
"""An address whose parts no error of a library repeats as "not a port" or "control characters"."""
KINDS = {"http": HTTPConnection, "https": HTTPSConnection}


class Http:
    """The files below an address (`remote.Objects`), by any number of threads.

    Servers' certificates are checked against the system's; SSL_CERT_FILE names others.
    """

    def __init__(self, url: str, timeout: float) -> None:
        """timeout: seconds for an answer, all of it."""
        self._url, self._timeout = url, timeout
        self._idle: defaultdict[tuple[str, str], list[HTTPConnection]] = defaultdict(list)

    def stat(self, name: str) -> tuple[int, str]:
        _, head = self._get(name, 0, 1)
        version = head.get("ETag") or head.get("Last-Modified") or ""
        return int(head.get("Content-Range", "").rpartition("/")[2]), version

    def read(self, name: str, start: int, end: int) -> bytes:
        return self._get(name, start, end)[0]

    def _get(self, name: str, start: int, end: int) -> tuple[bytes, HTTPMessage]:
        url = f"{self._url}/{quote(name)}"
        for _ in range(REDIRECTS):
            status, head, data = self._ask(url, start, end)
            if status not in (301, 302, 303, 307, 308):
                break
            new = urljoin(url, head.get("Location", ""))
            if urlsplit(new).scheme not in (urlsplit(url).scheme, "https") or not SAFE.fullmatch(new):
                raise ConnectionError(f"HTTP {status} to where it is not safe")
            url = new
        if status in (404, 410):
            raise FileNotFoundError(f"HTTP {status}")
        if status in (401, 403):
            raise PermissionError(f"HTTP {status}")
        if status == 200:
            raise UserError(f"{self._url}: this server gives whole files only, and parts of them are needed (HTTP "
                            "range requests): serve the shards by another, or copy them")
        if status not in (206, 416):
            raise ConnectionError(f"HTTP {status}")
        return data, head

    def _ask(self, url: str, start: int, end: int) -> tuple[int, HTTPMessage, bytes]:
        """Status, header and bytes of an answer; no bytes but those of the range."""
        place, until = urlsplit(url), time.monotonic() + self._timeout
        idle = self._idle[place.scheme, place.netloc]
        try:
            connection = idle.pop()
        except IndexError:
            connection = KINDS[place.scheme](place.netloc, timeout=self._timeout)
        try:
            query = f"?{place.query}" if place.query else ""
            connection.request("GET", f"{place.path}{query}", headers={
                "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity", "User-Agent": "vid2vid_dist"})
            answer = connection.getresponse()
            data = bytearray()
            while answer.status == 206 and len(data) < end - start and (piece := answer.read1(PIECE)):
                data += piece
                if time.monotonic() > until:
                    raise TimeoutError(f"{len(data)} of {end - start} bytes in {self._timeout:g} s")
            if answer.length and answer.status == 206:
                raise ConnectionError(f"cut after {len(data)} of {end - start} bytes")
        except BaseException:
            connection.close()
            raise
        answer.close()
        if answer.length == 0 and not answer.will_close:
            idle.append(connection)
        else:  # there is more to come, which nobody wants
            connection.close()
        return answer.status, answer.headers, bytes(data)
