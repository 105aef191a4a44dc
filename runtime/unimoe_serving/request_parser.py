"""httptools' parser, which goes on in HTTP/1.1 after an offer of another protocol that the server does not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httptools


class RequestParser:
    """Parses the requests of one connection, and calls the connection back as httptools does.

    Java's and curl's clients offer HTTP/2 (`Upgrade: h2c`) with their requests. A server may ignore that, but httptools
    ends at every offer and takes the body for the other protocol. So a new parser reads the rest. It gets only the
    length of the body as a head, and the connection does not hear of that head.
    """

    def __init__(self, connection: Any, takes_offer: Callable[[], bool]) -> None:
        """`connection`: uvicorn's HTTP protocol. `takes_offer`: whether it changes to the offered protocol."""
        self._connection, self._takes_offer = connection, takes_offer
        self._is_silent = False
        self._parser = self._start()

    def feed_data(self, data: bytes) -> None:
        """Parse the next bytes. Raises HttpParserUpgrade where the connection takes an offer, and HttpParserError."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                if self._takes_offer():
                    raise
                data = data[offer.args[0] :]
            self._parser = self._start()
            self._is_silent = True
            self._parser.feed_data(_head_of_length(self._connection.headers))
            self._is_silent = False

    def get_http_version(self) -> str:
        """The version of the request's head."""
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        """The method of the request's head."""
        return self._parser.get_method()

    def should_upgrade(self) -> bool:
        """Whether the head offers another protocol."""
        return self._parser.should_upgrade()

    def should_keep_alive(self) -> bool:
        """Whether the connection may stay open after the request."""
        return self._parser.should_keep_alive()

    def on_message_begin(self) -> None:
        """Called by httptools, as the methods below."""
        if not self._is_silent:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        if not self._is_silent:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        if not self._is_silent:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        """The end of the head."""
        if not self._is_silent:
            self._connection.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._connection.on_body(body)

    def on_message_complete(self) -> None:
        """The end of the request. httptools calls it at the end of a head with an offer as well."""
        if not self._parser.should_upgrade() or self._takes_offer():
            self._connection.on_message_complete()

    def _start(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        return parser


def _head_of_length(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A head that says how long the body is, as another one with these headers did."""
    lines = [b"%s: %s\r\n" % header for header in headers if header[0] in (b"content-length", b"transfer-encoding")]
    return b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
