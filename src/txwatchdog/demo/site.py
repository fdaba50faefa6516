"""The shop's pages: an index, one that behaves, and one for each bad habit."""

from __future__ import annotations

import math
from html import escape

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web import http, pages
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txwatchdog.demo.shop import Shop, Task

__all__ = ["ShopSite", "make_site", "read_seconds"]

# What a page takes if its address does not say; more than the usual threshold.
_USUAL_SECONDS = 1.0


class ShopSite(Site):
    """Counts each visit in place of an access log, which would hide the pauses on a terminal.

    Args:
        shop: What is served.
        root: Its index.
    """

    noisy = False

    def __init__(self, shop: Shop, root: Resource) -> None:
        super().__init__(root)  # type: ignore[no-untyped-call]
        self._shop = shop

    def log(self, request: http.Request) -> None:
        """Count the visit, once it is answered."""
        path = request.path.decode(errors="replace")
        # Paths come from outside: those that are no page are counted as one, lest they pile up.
        known = path in {"/", "/fast"} or path.removeprefix("/") in self._shop.tasks
        self._shop.visits[path if known else "(other)"] += 1


def make_site(shop: Shop, clock: IReactorTime, threshold: float) -> ShopSite:
    """Return the site of `shop`; its pages pause for a little more than `threshold` by default."""
    index = _Index(shop)
    index.putChild(b"", index)
    index.putChild(b"fast", _Fast(clock))
    for path, task in shop.tasks.items():
        seconds = min(max(_USUAL_SECONDS, 2 * threshold), task.longest)
        index.putChild(path.encode(), _Pausing(task, seconds))
    return ShopSite(shop, index)


def read_seconds(text: bytes, longest: float) -> float:
    """Return the seconds that a page's address asks for.

    Raises:
        ValueError: They are no number above 0, or more than `longest`; the message says so.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= longest:
        raise ValueError(
            f"seconds={text[:40].decode(errors='replace')} can't be: "
            f"give a number above 0, and {longest:g} at most."
        )
    return seconds


def _html(request: Request, title: str, body: str) -> bytes:
    request.setHeader(b"content-type", b"text/html; charset=utf-8")
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body><h1>{title}</h1>{body}</body></html>\n"
    ).encode()


class _Index(Resource):
    """Says what each page does."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shop = shop

    def getChild(self, path: bytes, request: Request) -> IResource:  # noqa: ARG002 - its interface
        # Twisted's own answer to an unknown path warns that it is deprecated.
        return pages.notFound()

    def render_GET(self, request: Request) -> bytes:
        listed = "".join(
            f'<dt><a href="/{path}{_example(task)}">/{path}{_example(task)}</a>'
            f" pauses the reactor in <code>{task.function}</code></dt>"
            f"<dd>{escape(task.bad_habit)}<br><em>Right:</em> {escape(task.right_way)}</dd>"
            for path, task in self._shop.tasks.items()
        )
        return _html(
            request,
            "A shop that pauses",
            "<p>Its pages stop the whole service while they work, as those of real services do. "
            "Add <code>?seconds=2</code> to say for how long. The watchdog sees each pause; "
            "ask its console: <code>watchdog.top()</code>.</p>"
            '<dl><dt><a href="/fast">/fast</a> behaves</dt>'
            "<dd>Retries a payment too, but lets the reactor work meanwhile.</dd>"
            f"{listed}</dl>",
        )


def _example(task: Task) -> str:
    return "?seconds=30" if task.path == "sleep" else ""


class _Pausing(Resource):
    """Does one of the shop's tasks in the reactor's thread, and answers when it is done."""

    isLeaf = True

    def __init__(self, task: Task, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._task = task
        self._seconds = seconds

    def render_GET(self, request: Request) -> bytes:
        assert request.args is not None
        texts = request.args.get(b"seconds")
        try:
            seconds = read_seconds(texts[-1], self._task.longest) if texts else self._seconds
        except ValueError as error:
            request.setResponseCode(400)
            return _html(request, "Not like that", f"<p>{escape(str(error))}</p>")
        outcome = self._task.work(seconds)
        # The catalogue is HTML already; everything else is text.
        shown = outcome if outcome.startswith("<table>") else escape(outcome)
        return _html(request, self._task.function, f'<p>{shown}</p><p><a href="/">index</a></p>')


class _Fast(Resource):
    """What `retry_payment` should have been: the reactor is free between the attempts."""

    isLeaf = True

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock = clock

    def render_GET(self, request: Request) -> int:
        def give_up(_gone: Failure) -> None:
            answering.cancel()

        def expect_cancelled(failure: Failure) -> None:
            failure.trap(CancelledError)

        answering = Deferred.fromCoroutine(self._answer(request))
        # A visitor who leaves early is no error.
        answering.addErrback(expect_cancelled)
        request.notifyFinish().addErrback(give_up)
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        delay = 0.05
        for _attempt in range(3):
            await deferLater(self._clock, delay)
            delay *= 2
        body = '<p>the payment gateway accepted attempt 4</p><p><a href="/">index</a></p>'
        request.write(_html(request, "fast", body))
        request.finish()
