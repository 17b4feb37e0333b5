"""In a real browser: open a notebook in JupyterLab, run it, move a slider, see the picture change."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from data_scripts import build_notebooks

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "tests" / "output"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 180  # s, for a kernel that imports torch on a busy machine

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver (Debian: chromium-driver)",
    ),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(address, folder) of a JupyterLab of its own, whose kernels are live: no SAMERGE_STATIC."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    token = secrets.token_hex(16)
    environment = {k: v for k, v in os.environ.items() if k != "SAMERGE_STATIC"}
    environment |= {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"), "JUPYTER_TOKEN": token}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
    command += ["--ServerApp.port_retries=0", "--expose-app-in-browser", f"--ServerApp.root_dir={folder}"]
    log = (folder / "lab.log").open("w", encoding="utf-8")
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for_port(port, server, folder / "lab.log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset", folder
    finally:
        server.terminate()
        server.wait(timeout=60)
        log.close()


def wait_for_port(port: int, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture
def browser(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "disable-dev-shm-usage",
        "window-size=1200,1600",
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


def demo(folder: Path) -> Path:
    """The demo lesson, not executed: the browser does that."""
    nbformat.write(build_notebooks.assemble(ROOT / "tests" / "demo_lesson" / "01_demo.py"), folder / "01_demo.ipynb")
    return folder / "01_demo.ipynb"


def synflow(folder: Path) -> Path:
    """A real notebook with a slider, as it was committed; this one needs no suite, so it is there in seconds."""
    return Path(shutil.copy(ROOT / "notebooks" / "03_synflow.ipynb", folder))


@pytest.mark.parametrize("notebook", [demo, synflow])
def test_a_slider_changes_the_picture(notebook, lab, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    address, folder = lab
    path = notebook(folder)
    wait = WebDriverWait(browser, PATIENCE, poll_frequency=0.5)
    browser.get(address.format(path.name))
    wait.until(lambda b: b.execute_script("return Boolean(window.jupyterapp)"))
    wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell"))
    wait.until(lambda b: b.execute_script(KERNEL_IS_READY))
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")

    picture = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, "img.widget-image"))[0]
    wait.until(lambda b: pixels(b, picture))
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    before = pixels(browser, picture)
    browser.save_screenshot(str(OUTPUT / f"{path.stem}_before.png"))
    box = picture.find_element(By.XPATH, "./ancestor::*[contains(@class, 'widget-vbox')][1]")
    for _ in range(5):
        box.find_element(By.CSS_SELECTOR, ".noUi-handle, .ui-slider-handle").send_keys(Keys.ARROW_RIGHT)
    wait.until(lambda b: pixels(b, picture) not in (None, before))
    wait.until(lambda b: b.execute_script(KERNEL_IS_READY))  # all five steps are drawn
    browser.save_screenshot(str(OUTPUT / f"{path.stem}_after.png"))


KERNEL_IS_READY = """
const panel = window.jupyterapp.shell.currentWidget;
return panel?.sessionContext?.session?.kernel?.status === "idle";
"""

PIXELS = """
const [image, done] = arguments;
if (!image.complete || image.naturalWidth === 0) { done(null); return; }
const canvas = document.createElement("canvas");
canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
canvas.getContext("2d").drawImage(image, 0, 0);
done(canvas.toDataURL());
"""


def pixels(browser, image) -> str | None:
    """What the picture shows now, as text that can be compared; None while it is not there yet."""
    return browser.execute_async_script(PIXELS, image)


@pytest.fixture(autouse=True, scope="module")
def output_folder():
    OUTPUT.mkdir(parents=True, exist_ok=True)
