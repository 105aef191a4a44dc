"""uvicorn's WebSocket protocol, which answers a handshake that it refuses in OpenAI's JSON."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request

from unimoe_serving.connections import whole_answer
from unimoe_serving.errors import RequestError


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Answers every handshake. uvicorn's own says nothing where websockets cannot read the head, and waits forever."""

    def data_received(self, data: bytes) -> None:
        """Read the handshake's head, which comes as a whole, or a part of a message."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self._refuse("its head has too many lines, too long ones, or a body")

    def handle_connect(self, event: Request) -> None:
        """Accept the handshake, or refuse it."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake as error:
            self.handshake_initiated = True
            self._refuse(str(error))
        else:
            super().handle_connect(event)

    def send_receive_event_to_app(self) -> None:
        """Hand over a whole message. One that is not UTF-8 ends the connection; uvicorn would log a traceback."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Send an event of the application."""
        await super().send(message)
        self.handshake_complete |= self.close_sent  # so that uvicorn takes a refusal for an answer

    def _refuse(self, reason: str) -> None:
        self.handshake_complete = self.close_sent = True
        error = RequestError(f"the WebSocket cannot be opened: {reason}", code="invalid_websocket")
        self.transport.write(whole_answer("400 Bad Request", error))
        self.transport.close()
