"""A viewer of the small study as a command, and a browser to look at it."""

import base64
import http.client
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from skips import skip_or_fail

_SECONDS = 300  # an analysis on a slow and busy machine; nothing here waits longer than it has to


class Viewer:
    """`lungrecovery view` with some arguments, running; `address` is what it printed."""

    def __init__(self, *arguments: str, environment: dict[str, str] | None = None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "LungRecoveryLib.cli", "view", *map(str, arguments), "--no-browser"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", env={**os.environ, **(environment or {})},
        )  # fmt: skip
        self._lines: Queue[str] = Queue()
        self.errors: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._collect, daemon=True).start()
        try:
            self.address = self._lines.get(timeout=_SECONDS)
        except Empty:
            self.stop()
            pytest.fail("no address: " + "".join(self.errors))
        assert self.address.startswith("http"), "".join(self.errors)

    def _listen(self) -> None:
        for line in self.process.stdout:
            if line.startswith("viewer: "):
                self._lines.put(line.removeprefix("viewer: ").strip())
        self._lines.put("ended")

    def _collect(self) -> None:
        self.errors.extend(self.process.stderr)

    @property
    def token(self) -> str:
        return self.address.partition("token=")[2]

    @property
    def port(self) -> int:
        return urlsplit(self.address).port

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a request as it stands, which no client has tidied up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read() if answer.status != 101 else b""
        connection.close()
        return answer.status, dict(answer.headers), body

    def cookie(self) -> str:
        """The cookie that the first visit gets."""
        status, headers, _body = self.ask(f"/?token={self.token}")
        assert status == 302
        return headers["Set-Cookie"].partition(";")[0]

    def stop(self, kill: bool = False) -> int:
        (self.process.kill if kill else self.process.terminate)()
        return self.process.wait(60)


@pytest.fixture(scope="session")
def rendering() -> None:
    """What the viewer needs; without it its tests are skipped, saying so."""
    from LungRecoveryLib.errors import MissingDependency
    from LungRecoveryLib.viewer.checks import require_viewer

    try:
        require_viewer()
    except MissingDependency as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="session")
def viewer(rendering, small_study):
    """A viewer of the small study."""
    running = Viewer(small_study)
    yield running
    running.stop()


@pytest.fixture
def start(rendering):
    """Starts further viewers, which end with the test."""
    running: list[Viewer] = []

    def make(*arguments, **options) -> Viewer:
        running.append(Viewer(*arguments, **options))
        return running[-1]

    yield make
    for one in running:
        if one.process.poll() is None:
            one.stop(kill=True)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; the module's scope keeps its event loop from tests that have one of their own."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        skip_or_fail("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


@dataclass
class Tab:
    """A page of the browser at a viewer, and what went wrong in it."""

    page: object
    problems: list[str]

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression holds."""
        self.page.wait_for_function(condition)

    def drawn(self, view: str = "Red") -> None:
        """Wait until a view has a picture that fills it."""
        self.wait(
            f"(() => {{ const i = document.querySelector('.pane-{view} img'); return i && i.naturalWidth > 100 && "
            f"Math.abs(i.naturalWidth - i.parentElement.clientWidth) < 3 }})()"
        )

    def state(self, name: str):
        return self.page.evaluate(f"window.trame.state.get({name!r})")

    def shows(self, wanted: Callable[[np.ndarray], bool], view: str = "Red") -> np.ndarray:
        """The picture of a view once it is as wanted; the test fails where it never is."""
        last = time.monotonic() + _SECONDS
        while not wanted(picture := self.picture(view)):
            assert time.monotonic() < last, "the picture never came to be as it should"
            self.page.wait_for_timeout(200)
        return picture

    def picture(self, view: str = "Red") -> np.ndarray:
        """The picture of a view as it is now, (rows, columns, RGB)."""
        self.drawn(view)
        address = self.page.evaluate(
            f"""(() => {{ const i = document.querySelector('.pane-{view} img');
            const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = i.naturalHeight;
            c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL('image/png') }})()"""
        )
        return np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))).convert("RGB"))


@pytest.fixture
def open_tab(browser, request):
    """Opens a viewer, by default that of the small study, in a tab of a context of its own."""
    contexts = []

    def make(address: str = "", width: int = 1280, height: int = 720, context=None, ready: bool = True) -> Tab:
        if context is None:
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * _SECONDS)
        tab = Tab(page, [])
        page.on("console", lambda m: tab.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: tab.problems.append(str(e)))
        page.on("request", lambda r: tab.problems.append(r.url) if _foreign(r.url) else None)
        page.goto(address or request.getfixturevalue("viewer").address)
        if ready:
            tab.drawn()
            tab.wait("window.trame.state.get('unread') === 0")
        return tab

    yield make
    for context in contexts:
        context.close()


def _foreign(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1"


@pytest.fixture(scope="session")
def damaged_study(small_study, tmp_path_factory) -> Path:
    """A copy of the small study with a map cut short."""
    folder = tmp_path_factory.mktemp("damaged") / "study"
    shutil.copytree(small_study, folder)
    victim = next(folder.glob("*/jacobian.nii.gz"))
    victim.write_bytes(victim.read_bytes()[:2000])
    return folder
