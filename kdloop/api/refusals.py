"""Refusals of /v1, in the shape that OpenAI's clients read: {"error": {"message", "type", "param", "code"}}."""

from starlette.responses import JSONResponse

from kdloop.student import EngineUnavailable, PromptTooLong
from storage.conversations import UnknownRow

LONGEST_WAIT = 60  # seconds: OpenAI's clients do not wait for longer, and try at once or not at all
KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """`param` is the field that is refused."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, code: str | None = None, wait: float = 0
    ):
        super().__init__(message)
        self.param, self.status, self.code, self.wait = param, status, code, wait

    @property
    def body(self) -> dict:
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """With `Retry-After`, which the clients obey, where it may be asked again."""
        headers = {"Retry-After": f"{min(self.wait, LONGEST_WAIT):.0f}"} if self.wait else {}
        return JSONResponse(self.body, self.status, headers)


def of_domain(error: Exception) -> Refusal:
    """What the loop's own functions refuse."""
    if isinstance(error, PromptTooLong):
        return Refusal(str(error), "messages", code="context_length_exceeded")
    if isinstance(error, EngineUnavailable):
        return Refusal(str(error), status=503, code="engine_unavailable", wait=1)
    if isinstance(error, UnknownRow):
        return Refusal("No completion of yours has this id", status=404, code="not_found")
    return Refusal(str(error))
