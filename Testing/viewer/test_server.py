"""Who may reach the viewer, and what it says when it cannot be had."""

import http.client
import io
import json
import shutil
import ssl
import subprocess

import pytest
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.errors import MissingDependency
from LungRecoveryLib.viewer import checks
from LungRecoveryLib.viewer.access import Access

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize("path", ["/", "/index.html", "/files/report.html", "/lungrecovery/page.html", "/ws"])
def test_nothing_is_told_without_the_token(viewer, path):
    for address in (path, f"{path}?token={'x' * 43}", f"{path}?token="):
        status, _headers, body = viewer.ask(address, **(UPGRADE if path == "/ws" else {}))
        assert status == 403
        assert b"Tissue" not in body
        assert b"address" in body


def test_the_cookie_of_the_first_visit_opens_the_page(viewer):
    cookie = viewer.cookie()
    status, headers, _body = viewer.ask(f"/?token={viewer.token}")
    assert headers["Location"] == "/index.html"
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    status, headers, body = viewer.ask("/index.html", Cookie=cookie)
    assert status == 200
    assert viewer.token.encode() not in body
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert viewer.ask("/ws", Cookie=cookie, Origin=f"http://127.0.0.1:{viewer.port}", **UPGRADE)[0] == 101


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "null", "https://127.0.0.1.evil.example"]
)
def test_foreign_origins_are_refused_even_with_the_cookie(viewer, origin):
    cookie = viewer.cookie()
    for path, more in (("/ws", UPGRADE), ("/paraview/", {}), ("/files/study.json", {}), ("/index.html", {})):
        method = "POST" if path == "/paraview/" else "GET"
        assert viewer.ask(path, method, Cookie=cookie, Origin=origin, **more)[0] == 403


def test_another_name_for_this_machine_is_refused(viewer):
    assert viewer.ask("/index.html", Cookie=viewer.cookie(), Host=f"rebound.example:{viewer.port}")[0] == 403


@pytest.mark.parametrize(
    "name",
    ["../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "baseline/../study.json", "/etc/passwd",
     "baseline", "study.json%00.csv", "patient/day-000.nii.gz"],
)  # fmt: skip
def test_a_path_from_the_browser_never_reaches_the_file_system(viewer, name):
    status, _headers, body = viewer.ask(f"/files/{name}", Cookie=viewer.cookie())
    assert status == 404
    assert b"root:" not in body


def test_files_by_name(viewer, small_study):
    cookie = viewer.cookie()
    status, headers, body = viewer.ask("/files/study.json", Cookie=cookie)
    assert status == 200
    assert json.loads(body)["schema"] == "lungrecovery-study-1"
    assert headers["Content-Disposition"].startswith("attachment")
    status, headers, body = viewer.ask("/files/report.html", Cookie=cookie)
    assert body == (small_study / "report.html").read_bytes()
    assert "sandbox" in headers["Content-Security-Policy"]


def test_the_page_says_when_the_server_has_gone_and_an_old_address_is_refused(start, small_study, open_tab):
    first = start(small_study)
    tab = open_tab(first.address)
    first.stop(kill=True)
    tab.page.wait_for_selector(".ended")
    assert "lungrecovery view" in tab.page.inner_text(".ended")
    second = start(small_study, "--port", first.port, "--idle", "0.05")
    assert second.token != first.token
    assert second.ask(f"/?token={first.token}")[0] == 403
    tab.page.reload()  # the old cookie opens nothing
    assert "not open to you" in tab.page.inner_text("body")
    assert second.process.wait(60) == 0  # it ends by itself, for nobody whom it knows looks at it


def test_others_get_in_only_when_that_was_said():
    shut = Access("127.0.0.1", token="t")
    open_to_others = Access("0.0.0.0", token="t")
    assert shut.problem("10.0.0.5:80", None, "t", None)
    assert not open_to_others.problem("10.0.0.5:80", "http://10.0.0.5:80", "t", None)
    assert open_to_others.problem("10.0.0.5:80", "http://10.0.0.6:80", "t", None)
    assert open_to_others.problem("10.0.0.5:80", None, None, "old")
    assert Access("::1", token="t").address(8) == "http://[::1]:8/?token=t"
    assert Access("0.0.0.0", tls=True, token="t").address(8) == "https://127.0.0.1:8/?token=t"
    assert len({Access("127.0.0.1").token for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--host", "0.0.0.0", "--certificate", "here.pem"], "--key"),
        (["--certificate", "no.pem", "--key", "no.pem"], "no.pem does not exist"),
        (["--days", "0"], "--timepoints"),
    ],
)
def test_options_that_cannot_be_meant(small_study, arguments, words):
    result = CliRunner().invoke(app, ["view", str(small_study), *arguments])
    assert result.exit_code == 2
    assert words in result.output


def test_with_a_certificate_others_are_served_encrypted(start, small_study, tmp_path, required_program):
    """By https and wss alone, and with a cookie that never travels unencrypted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [required_program("openssl", "openssl"), "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=viewer",
         "-newkey", "rsa:2048", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    running = start(small_study, "--host", "0.0.0.0", "--certificate", certificate, "--key", key)
    assert running.address.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=str(certificate))

    def ask(path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("127.0.0.1", running.port, context=trusted, timeout=60)
        connection.request(method, path, headers=headers)
        return connection.getresponse()

    assert ask("/").status == 403
    first = ask(f"/?token={running.token}")
    assert first.status == 302
    assert "Secure" in first.headers["Set-Cookie"]
    session = ask("/paraview/", "POST", Cookie=first.headers["Set-Cookie"].partition(";")[0])
    assert json.loads(session.read())["sessionURL"] == f"wss://127.0.0.1:{running.port}/ws"
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        running.ask(f"/?token={running.token}")


def test_after_the_demo_nobody_is_kept_waiting(monkeypatch, capsys, small_study):
    """Neither where CI runs, nor on request, nor without display and terminal."""
    from LungRecoveryLib.cli.viewing import show_afterwards

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    show_afterwards(small_study, no_browser=False)
    monkeypatch.setenv("DISPLAY", ":0")
    show_afterwards(small_study, no_browser=True)
    monkeypatch.setenv("CI", "true")
    show_afterwards(small_study, no_browser=False)
    assert capsys.readouterr().out == 3 * f"in the browser: lungrecovery view {small_study}\n"


def test_a_folder_that_is_no_study(tmp_path):
    result = CliRunner().invoke(app, ["view", str(tmp_path)])
    assert result.exit_code == 2
    assert "study.json" in result.output


def test_a_study_that_is_cut_short(small_study, tmp_path):
    whole = (small_study / "study.json").read_text(encoding="utf-8")
    (tmp_path / "study.json").write_text(whole[: len(whole) // 2], encoding="utf-8")
    result = CliRunner().invoke(app, ["view", str(tmp_path)])
    assert result.exit_code == 2
    assert "analyse the scans again" in result.output


def test_a_damaged_map_ends_in_a_sentence(start, damaged_study, open_tab):
    """In the terminal and in the page, where it stays when the server has gone."""
    running = start(damaged_study)
    tab = open_tab(running.address, ready=False)
    assert running.process.wait(300) == 2
    tab.page.wait_for_selector(".ended")
    sentence = "jacobian.nii.gz cannot be read: analyse the scans again"
    assert sentence in tab.page.inner_text("#failure")
    assert sentence in "".join(running.errors)


def test_without_its_packages_the_report_is_offered(monkeypatch, small_study, tmp_path):
    monkeypatch.setattr(checks, "_PACKAGES", {"no_such_module": "trame-slicer"})
    with pytest.raises(MissingDependency, match=r"trame-slicer: pip install .*report.html"):
        checks.require_viewer(small_study)
    shutil.copy(small_study / "study.json", tmp_path)
    with pytest.raises(MissingDependency, match=r"pip install 'lungrecovery\[viewer\]'$"):
        checks.require_viewer(tmp_path)
