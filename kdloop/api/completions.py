"""POST /v1/chat/completions: the place in the queue, and the completion as one body or as server-sent events, whose end
is the end of the request."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from kdloop.api import bodies
from kdloop.api.access import Caller
from kdloop.api.refusals import Refusal, of_domain
from kdloop.api.writing import Loop, Writing
from kdloop.chat.turn import Reply
from kdloop.settings import current
from kdloop.student import Sample
from storage.conversations import UnknownRow

RECEIPT = "x-kdloop-completion"  # the header with a completion's id
PREFIX = "chatcmpl-"  # of ids as clients see them
MOST_WAITING = 64  # requests, as on the page
WAIT_SECONDS = 120
LOOK_SECONDS = 0.5  # how often a request that waits is asked whether its client is still there
REFUSED = (ValueError, UnknownRow)
USER_HEADER = "x-openwebui-user-id"
GONE = Response(status_code=499)


@dataclass
class Answer:
    """A completion under way as its client gets it. A thread writes it to its end at the engine's pace, so that a slow
    client, or a busy event loop, gets several tokens at once. `close` gives back what it holds, however it ends."""

    writing: Writing
    place: Future
    threads: CapacityLimiter
    frames: Generator[tuple[Reply, ...], None, None]
    created: int = field(default_factory=lambda: int(time.time()))
    replies: tuple[Reply, ...] = ()
    closed: bool = False
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    written: asyncio.Task | None = None

    async def begin(self) -> None:
        """What is stored before the engine is asked. Raises Refusal."""
        try:
            self.replies = await to_thread.run_sync(next, self.frames, limiter=self.threads)
        except REFUSED as error:
            raise of_domain(error) from error
        write = partial(self.write, asyncio.get_running_loop())
        self.written = asyncio.ensure_future(to_thread.run_sync(write, limiter=self.threads))
        self.written.add_done_callback(lambda _: self.grown.set())

    def write(self, loop: asyncio.AbstractEventLoop) -> None:
        for replies in self.frames:
            self.replies = replies
            if self.closed:
                break
            loop.call_soon_threadsafe(self.grown.set)

    async def step(self) -> bool:
        """Once it has grown; False at its end. Raises Refusal."""
        await self.grown.wait()
        self.grown.clear()
        return not self.is_written()

    def is_written(self) -> bool:
        """Raises Refusal."""
        if not self.written.done():
            return False
        try:
            self.written.result()
        except REFUSED as error:
            raise of_domain(error) from error
        return True

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with CancelScope(shield=True):
            try:
                if self.written:
                    await asyncio.wait([self.written])
                await to_thread.run_sync(self.frames.close, limiter=self.threads)
            finally:
                self.writing.loop.supervisor.places.leave(self.place)

    @property
    def id(self) -> str:
        return PREFIX + self.replies[0].completion_id

    def head(self, kind: str) -> dict:
        checkpoint = self.writing.checkpoint
        by = {"model": checkpoint.name, "system_fingerprint": f"{checkpoint.name}-{self.writing.engine.name}"}
        return {"id": self.id, "object": kind, "created": self.created} | by

    def usage(self) -> dict:
        """The prompt counts once, whatever `n` is."""
        samples = [r.sample or Sample("", "", 0, 0, 0, 0) for r in self.replies]
        prompt, written = samples[0].prompt_tokens, sum(s.completion_tokens for s in samples)
        return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}

    def end(self, i: int) -> str:
        ended = self.replies[i].status == "finished" or self.writing.writers[i].stopped
        return "stop" if ended else "length"

    async def logprobs(self, i: int) -> dict | None:
        if not self.writing.asked.logprobs:
            return None
        find = partial(self.writing.logprobs, self.replies[i])
        return {"content": await to_thread.run_sync(find, limiter=self.threads), "refusal": None}

    def receipt(self, reply: Reply) -> dict:
        return {"completion": PREFIX + reply.completion_id, "disclaimers": self.writing.disclaimers}

    async def body(self) -> dict:
        choices = [
            {
                "index": i,
                "message": {"role": "assistant", "content": r.text, "refusal": None} | thought(r.thought),
                "finish_reason": self.end(i),
                "logprobs": await self.logprobs(i),
            }
            | self.receipt(r)
            for i, r in enumerate(self.replies)
        ]
        return self.head("chat.completion") | {"choices": choices, "usage": self.usage()}

    async def events(self) -> AsyncIterator[str]:
        sent = [["", ""] for _ in self.replies]
        for i, r in enumerate(self.replies):
            yield self.chunk(i, {"role": "assistant", "content": ""}, **self.receipt(r))
        try:
            going = True
            while going:
                going = await self.step()
                for i, reply in enumerate(self.replies):
                    if delta := grown(sent[i], reply):
                        yield self.chunk(i, delta)
            for i, _ in enumerate(self.replies):
                yield self.chunk(i, {}, finish_reason=self.end(i), logprobs=await self.logprobs(i))
        except Refusal as error:  # the status is sent already
            yield event(error.body)
            return
        if self.writing.asked.include_usage:
            yield event(self.head("chat.completion.chunk") | {"choices": [], "usage": self.usage()})
        yield "data: [DONE]\n\n"

    def chunk(self, i: int, delta: dict, **more) -> str:
        usage = {"usage": None} if self.writing.asked.include_usage else {}
        choice = {"index": i, "delta": delta, "finish_reason": None, "logprobs": None} | more
        return event(self.head("chat.completion.chunk") | {"choices": [choice]} | usage)


class Events(StreamingResponse):
    """Closes the answer also where its client leaves before the first event."""

    def __init__(self, answer: Answer, headers: dict[str, str]):
        quick = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(answer.events(), media_type="text/event-stream", headers=headers | quick)
        self.answer = answer

    async def __call__(self, scope, receive, send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.answer.close()


async def create(loop: Loop, threads: CapacityLimiter, request: Request, caller: Caller, body: dict) -> Response:
    """Raises Refusal where no completion comes."""
    caller.limit("messages")
    body = {"user": request.headers.get(USER_HEADER, "")[: bodies.MAX_USER]} | body
    asked = bodies.chat(body, current(loop.settings).max_tokens)
    places = loop.supervisor.places
    if len(places.waiting) >= MOST_WAITING:
        raise Refusal(f"{MOST_WAITING} requests wait already", status=429, code="overloaded", wait=2)
    place = places.ask()
    try:
        if not await is_granted(place, request):
            places.leave(place)
            return GONE
        writing = await to_thread.run_sync(Writing.begin, loop, caller, asked, limiter=threads)
    except BaseException:
        places.leave(place)
        raise
    answer = Answer(writing, place, threads, writing.replies())
    try:
        await answer.begin()
    except BaseException:
        await answer.close()
        raise
    return await respond(answer, request)


async def respond(answer: Answer, request: Request) -> Response:
    headers = {RECEIPT: answer.id}
    if answer.writing.asked.stream:
        return Events(answer, headers)
    try:
        while not answer.is_written():
            if await request.is_disconnected():
                return GONE
            await asyncio.wait([answer.written], timeout=LOOK_SECONDS)
        return JSONResponse(await answer.body(), headers=headers)
    finally:
        await answer.close()


async def is_granted(place: Future, request: Request) -> bool:
    """False where the client has gone meanwhile. Raises Refusal after WAIT_SECONDS."""
    turn, until = asyncio.wrap_future(place), time.monotonic() + WAIT_SECONDS
    while not turn.done():
        await asyncio.wait([turn], timeout=LOOK_SECONDS)
        if not turn.done() and await request.is_disconnected():
            return False
        if not turn.done() and time.monotonic() > until:
            raise Refusal("Too many requests wait: try again later", status=503, code="overloaded", wait=5)
    if turn.cancelled():
        raise Refusal("The app is ending", status=503, code="overloaded", wait=5)
    return True


def thought(text: str) -> dict:
    """As servers of reasoning models send it."""
    return {"reasoning_content": text} if text else {}


def grown(sent: list[str], reply: Reply) -> dict:
    """What has come since `sent`, [thought, text], which is updated; blanks at an end wait for what follows them."""
    delta = {}
    for i, (name, text) in enumerate((("reasoning_content", reply.thought), ("content", reply.text))):
        text = text.strip()
        if text.startswith(sent[i]) and len(text) > len(sent[i]):
            delta[name] = text[len(sent[i]) :]
            sent[i] = text
    return delta


def event(body: dict) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
