"""The server: started for one study or one analysis, open to whoever has its address, ended by Ctrl-C or idle time."""

import asyncio
import os
import signal
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from LungRecoveryLib.errors import Cancelled, LungRecoveryError
from LungRecoveryLib.viewer.access import Access
from LungRecoveryLib.viewer.analysis import Analysis
from LungRecoveryLib.viewer.downloads import Downloads

STATIC = Path(__file__).with_name("static")
_ROUTE = "lungrecovery"


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

    `say` is told the address. Raises BadInput where the folder is no study.
    """
    asyncio.run(_Session(settings, say, study, job).run())


class _Session:
    def __init__(self, settings: Settings, say: Callable[[str], None], study: Path | None, job: dict | None):
        self.settings, self.say, self.study, self.job = settings, say, study, job
        self.access = Access(settings.host, settings.certificate is not None)
        self.files = Downloads()
        self.analysis: Analysis | None = None
        self.tasks: set[asyncio.Task] = set()
        self.ended = asyncio.Event()

    async def run(self) -> None:
        """Everything from the first import to the end of the server."""
        _quiet()
        from trame.app import get_server

        from LungRecoveryLib.viewer.page import StudyPage

        self.server = get_server("lungrecovery", client_type="vue3")
        self._serve_page()
        self.page = StudyPage(self.server, self.files)
        if self.study is not None:
            self.page.load(self.study)
        self.server.controller.trigger("run")(self._again)
        self.server.controller.trigger("cancel")(self._cancel)
        self.server.controller.on_server_bind.add(self._guard)
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
            if self.analysis is not None:
                await self.analysis.cancel()
                self.analysis.discard()

    def _serve_page(self) -> None:
        from trame_plotly import module as plotly_module

        self.server.enable_module(
            {
                "serve": {_ROUTE: str(STATIC), **plotly_module.serve},
                "scripts": [f"{_ROUTE}/page.js"],
                "styles": [f"{_ROUTE}/page.css"],
            }
        )
        state = self.server.state
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
        self.page.views.register(self.server.controller)
        address = self.access.address(self.server.port)
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(NotImplementedError):  # on Windows, where Ctrl-C ends the loop by itself
                asyncio.get_running_loop().add_signal_handler(number, self.ended.set)
        self.say(address)
        if self.job is not None:
            self._again()
        if self.settings.browser:
            self._keep(asyncio.to_thread(webbrowser.open, address))

    def _again(self) -> None:
        """Start the analysis, as when the server starts and after it was cancelled or failed."""
        if self.job is not None and self.page.state.phase != "running" and self.page.nodes is None:
            with self.page.state as state:
                state.phase, state.failure = "running", ""
                state.progress = {"stage": "starting", "fraction": 0.0, "message": ""}
            self._keep(self._analyse())

    async def _analyse(self) -> None:
        self.analysis = Analysis(self.job, self._progress)
        try:
            folder = await self.analysis.run()
            with self.page.state as state:
                state.progress = {"stage": "opening the results", "fraction": 1.0, "message": ""}
            await asyncio.sleep(0.1)  # so that the page says so
            self.page.load(folder)
        except LungRecoveryError as error:
            self.analysis.discard()
            with self.page.state as state:
                state.failure = str(error)
                state.phase = "cancelled" if isinstance(error, Cancelled) else "failed"

    def _cancel(self) -> None:
        if self.analysis is not None:
            self._keep(self.analysis.cancel())

    def _progress(self, stage: str, fraction: float, message: str) -> None:
        with self.page.state as state:
            state.progress = {"stage": stage, "fraction": fraction, "message": message}

    def _keep(self, work: Any) -> None:
        """Run a coroutine beside the server; an exception in it is not lost."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


def _quiet() -> None:
    """Keep the server's libraries from reading this command's arguments and from writing to its output."""
    os.environ["TRAME_ARGS"] = ""
    os.environ["WSLINK_READY_MSG"] = ""
