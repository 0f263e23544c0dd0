"""Who may talk to the server: whoever has the token of this run, from the page of this server, and nobody else."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGES = ("/", "/index.html")
# Vue compiles the page's template in the browser, which takes 'unsafe-eval'; nothing is fetched from anywhere else.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_REFUSED = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Lung recovery</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 34em; margin: 4em auto; padding: 0 1em">
<h1 style="font-size: 1.3em">This page is not open to you</h1><p>{reason}</p>"""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access:
    """The token of one run of the server and the rules for requests.

    The address that is printed carries the token; the first visit turns it into a cookie, so that a reload and a second
    tab work. Every request needs one of them. A request that names a foreign page as its origin is refused, and where
    the server listens on this machine only, so is one that reached it by another name (DNS rebinding).
    """

    def __init__(self, host: str, tls: bool = False, token: str | None = None):
        self.token = token or secrets.token_urlsafe(32)
        self.host, self.tls = host, tls
        self.cookie = f"lungrecovery-{hashlib.sha256(self.token.encode()).hexdigest()[:12]}"

    def address(self, port: int) -> str:
        """The address that opens the page; it carries the token."""
        name = self.host if self.host not in ("0.0.0.0", "::", "") else "127.0.0.1"
        name = f"[{name}]" if ":" in name else name
        return f"http{'s' if self.tls else ''}://{name}:{port}/?token={self.token}"

    def problem(self, host: str, origin: str | None, given: str | None, cookie: str | None) -> str | None:
        """Why a request is refused, in a sentence; None where it is welcome."""
        if self.host in _LOOPBACK and urlsplit(f"//{host}").hostname not in _LOOPBACK:
            return "The viewer answers on this machine only: open the address that it printed."
        if origin is not None and urlsplit(origin).netloc != host:
            return "Another site asked for the viewer; it answers its own page only."
        if not self._is_token(given if given is not None else cookie):
            return "The address lacks the key of this run: open the address that the viewer printed when it started."
        return None

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is not welcome, hand the token to the page, and forbid the page to load from elsewhere."""
        given = request.query.get("token")
        cookie = request.cookies.get(self.cookie)
        reason = self.problem(request.host, request.headers.get("Origin"), given, cookie)
        if reason is not None:
            response: web.StreamResponse = web.Response(
                status=403, text=_REFUSED.format(reason=reason), content_type="text/html"
            )
        elif given is not None and request.path in _PAGES:
            response = web.HTTPFound("/index.html")  # so that the token does not stay in the browser's history
            response.set_cookie(self.cookie, self.token, httponly=True, samesite="Strict", secure=self.tls, path="/")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = error
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
        return response

    async def session(self, request: web.Request) -> web.Response:
        """Tell the page, which asks here first, where and with which key to connect."""
        kind = "wss" if self.tls else "ws"
        return web.json_response({"sessionURL": f"{kind}://{request.host}/ws", "secret": self.token})

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())
