"""What holds for every answer, whichever part of an application made it, and for every error that left it."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http import errors


class SafeAnswers:
    """Goes around everything else.

    No browser guesses what an answer is, and nobody keeps one, unless its route says for how long. An error ends here:
    a server that sees one would write its text into the log, which quotes what people wrote.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers.setdefault("x-content-type-options", "nosniff")
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_safely)
        except Exception as error:
            errors.log_once(scope, error)
            if not started:  # otherwise the server closes the connection in the middle of the answer
                await errors.response(errors.OUR_FAULT)(scope, receive, send_safely)
