"""The server: started for one study or one analysis, open to whoever has its address, ended by Ctrl-C or idle time."""

import asyncio
import os
import signal
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from aiohttp import web

from LungRecoveryLib.errors import Cancelled, LungRecoveryError
from LungRecoveryLib.results import StudyResult, read_study
from LungRecoveryLib.viewer.access import Access
from LungRecoveryLib.viewer.analysis import Analysis
from LungRecoveryLib.viewer.checks import require_drawing
from LungRecoveryLib.viewer.downloads import Downloads
from LungRecoveryLib.viewer.state import initial

STATIC = Path(__file__).with_name("static")
_ROUTE = "lungrecovery"
_PAGE = "LungRecoveryLib.viewer.page"  # with VTK and Slicer, whose import takes seconds
_LAST_WORDS = 2.0  # seconds for which a page can take in why the server ends
_OPENING = 20.0  # seconds that a browser may take to open the page
_LOOK = 0.05  # seconds in which the page learns what comes next


@dataclass(frozen=True)
class Settings:
    """How the server runs. `certificate` and `key` are TLS files; `idle` seconds without a page end it, 0 never."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    idle: float = 0.0
    browser: bool = True


def serve(settings: Settings, say: Callable[[str], None], study: Path | None = None, job: dict | None = None) -> None:
    """Serve the viewer of a study's folder, or of a job to be analysed first, until it is ended.

    The server listens, and `say` is told its address, before what draws is imported and the study is read; the page
    shows how far that is. Raises BadInput where the folder is no study or damaged, MissingDependency where nothing can
    be drawn on this machine; the page says it too.
    """
    result = read_study(study) if study is not None else None
    asyncio.run(_Session(settings, say, study, result, job).run())


class _Session:
    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        study: Path | None,
        result: StudyResult | None,
        job: dict | None,
    ):
        self.settings, self.say, self.study, self.result, self.job = settings, say, study, result, job
        self.access = Access(settings.host, settings.certificate is not None)
        self.files = Downloads()
        self.page: Any = None
        self.analysis: Analysis | None = None
        self.failure: Exception | None = None
        self.tasks: set[asyncio.Task] = set()
        self.ended, self.seen = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Everything from the first import to the end of the server."""
        _quiet()
        asyncio.get_running_loop().set_exception_handler(_let_go)
        from trame.app import get_server

        self.server = get_server(self.access.cookie, client_type="vue3")  # a name of its own: each runs but once
        self.state = self.server.state
        self._serve_page()
        self.server.controller.trigger("run")(self._again)
        self.server.controller.trigger("cancel")(self._cancel)
        self.server.controller.on_server_bind.add(self._guard)
        self.server.controller.on_client_connected.add(self.seen.set)
        running = asyncio.ensure_future(self._start())
        ready = asyncio.ensure_future(self.server.ready)
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        self._ready()
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({running, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()  # open pages are not waited for
            for task in self.tasks:
                task.cancel()
            if self.analysis is not None:
                await self.analysis.cancel()
                self.analysis.discard()
        if self.failure is not None:
            raise self.failure

    def _serve_page(self) -> None:
        from trame_plotly import module as plotly_module
        from trame_rca import module as rca_module

        self.server.enable_module(rca_module)
        self.server.enable_module(
            {
                "serve": {_ROUTE: str(STATIC), **plotly_module.serve},
                "scripts": [f"{_ROUTE}/page.js"],
                "styles": [f"{_ROUTE}/page.css"],
            }
        )
        state = self.state
        state.update(initial())
        state.chart_scripts = plotly_module.scripts  # large: the page takes them once its pictures are there
        state.trame__title, state.trame__favicon = "Lung recovery", f"{_ROUTE}/icon.svg"
        state.trame__template_main = (STATIC / "page.html").read_text(encoding="utf-8")
        state.trame__template_error = (STATIC / "ended.html").read_text(encoding="utf-8")

    def _guard(self, web_server: Any) -> None:
        web_server.app.middlewares.append(self.access.guard)
        web_server.app.add_routes([*self.files.routes(), web.post("/paraview/", self.access.session)])

    def _start(self) -> Any:
        self.server.cli.set_defaults(authKey=self.access.token, ssl=self._tls())
        return self.server.start(
            exec_mode="coroutine",
            host=self.settings.host,
            port=self.settings.port,
            timeout=round(self.settings.idle),
            thread=True,  # no signal handlers of its own
            open_browser=False,
            show_connection_info=False,
            disable_logging=True,
        )

    def _tls(self) -> str:
        files = (self.settings.certificate, self.settings.key)
        return ",".join(str(file) for file in files) if all(files) else ""

    def _ready(self) -> None:
        address = self.access.address(self.server.port)
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # on Windows, where Ctrl-C ends the loop by itself
                asyncio.get_running_loop().add_signal_handler(number, self.ended.set)
        self.say(address)
        if self.settings.browser:
            self._keep(asyncio.to_thread(webbrowser.open, address))
        if self.job is not None:
            self._again()
        else:
            self._keep(self._show())

    async def _show(self) -> None:
        """Show the study; where that cannot be, the page says why, and then the server ends."""
        try:
            await self._open(self.study, self.result)
        except LungRecoveryError as error:
            self.failure = error
            with self.state as state:
                state.failure, state.phase = str(error), "broken"
            await self._last_words()
            self.ended.set()

    async def _last_words(self) -> None:
        """Wait until the page has taken in why the server ends, if one is being opened."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.seen.wait(), _OPENING if self.settings.browser else _LAST_WORDS)
        await asyncio.sleep(_LAST_WORDS)

    async def _open(self, folder: Path, result: StudyResult) -> None:
        """Show a study as soon as its first pictures can be drawn."""
        if self.page is None:
            self._progress("starting the views", 0.0, "")
            drawing = asyncio.to_thread(require_drawing, self.study)
            module, _ = await asyncio.gather(asyncio.to_thread(import_module, _PAGE), drawing)
            self.page = module.StudyPage(self.server, self.files)
            self.page.views.register(self.server.controller)
        self._progress("reading the scans and maps", 0.5, "")
        await asyncio.sleep(_LOOK)
        await self.page.open(folder, result)

    def _again(self) -> None:
        """Start the analysis, as when the server starts and after it was cancelled or failed."""
        if self.job is not None and self.state.phase not in ("running", "ready"):
            with self.state as state:
                state.phase, state.failure = "running", ""
                state.progress = {"stage": "starting", "fraction": 0.0, "message": ""}
            self._keep(self._analyse())

    async def _analyse(self) -> None:
        self.analysis = Analysis(self.job, self._progress)
        try:
            folder = await self.analysis.run()
            with self.state as state:
                state.phase = "loading"
            await self._open(folder, await asyncio.to_thread(read_study, folder))
        except LungRecoveryError as error:
            self.analysis.discard()
            with self.state as state:
                state.failure = str(error)
                state.phase = "cancelled" if isinstance(error, Cancelled) else "failed"

    def _cancel(self) -> None:
        if self.analysis is not None:
            self._keep(self.analysis.cancel())

    def _progress(self, stage: str, fraction: float, message: str) -> None:
        with self.state as state:
            state.progress = {"stage": stage, "fraction": fraction, "message": message}

    def _keep(self, work: Any) -> None:
        """Run a coroutine beside the server; an exception in it ends the server."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            self.ended.set()


def _let_go(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of a picture that was on its way to a page that is closed by now."""
    if not isinstance(context.get("exception"), ConnectionResetError):
        loop.default_exception_handler(context)


def _quiet() -> None:
    """Keep the server's libraries from reading this command's arguments and from writing to its output."""
    os.environ["TRAME_ARGS"] = ""
    os.environ["WSLINK_READY_MSG"] = ""
