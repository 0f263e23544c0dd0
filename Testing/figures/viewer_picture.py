"""The viewer's picture for the README, from a study as `make demo` leaves it.

python viewer_picture.py STUDY_FOLDER PICTURE.png [WIDTH HEIGHT]
"""

import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def main(study: Path, picture: Path, width: int = 1280, height: int = 720) -> None:
    """Open the study in the viewer, wait until every plane is drawn, and keep what the browser shows."""
    command = [sys.executable, "-m", "LungRecoveryLib.cli", "view", str(study), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as viewer, sync_playwright() as playwright:
        try:
            address = viewer.stdout.readline().removeprefix("viewer: ").strip()
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
            page.set_default_timeout(300_000)  # a computer may be busy
            page.goto(address)
            page.wait_for_function(
                "[...document.querySelectorAll('.pane img')].filter((i) => i.naturalWidth > 100).length === 3"
            )
            page.click("#tab-charts")
            page.wait_for_selector(".chart .points path", state="attached")
            page.wait_for_timeout(3000)  # for the sharp pictures
            page.screenshot(path=str(picture))
            browser.close()
        finally:
            viewer.terminate()
    Image.open(picture).convert("RGB").save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:5]))
