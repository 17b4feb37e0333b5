"""In a real browser: what a reader sees of a notebook in JupyterLab, and what a screen reader is told.

JupyterLab and nbconvert's HTML are here themselves. Colab and VS Code are not: both put an output's text/html into a
frame of its own, which is what the fourth page does.
"""

import html
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
PATIENCE = 400  # s, for a kernel that imports torch, and trains a small network, on a busy machine

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
    environment["JUPYTERLAB_SETTINGS_DIR"] = str(folder / ".settings")
    settings = folder / ".settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}', encoding="utf-8")  # all cells are in the page, seen or not
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
    """A real notebook with a slider, as it was committed; it trains a small network before it gets there."""
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

    box = wait.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".widget-vbox:has(img)"))[0]

    def now(b) -> list[str | None]:
        """What the picture shows, as text that can be compared, None while it is not there yet; what it is said to be.

        One script for both: each move brings a new picture.
        """
        return b.execute_async_script(PICTURE, box)

    wait.until(lambda b: now(b)[0])
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
    picture, said = now(browser)
    browser.save_screenshot(str(OUTPUT / f"{path.stem}_before.png"))
    for _ in range(5):
        box.find_element(By.CSS_SELECTOR, ".noUi-handle, .ui-slider-handle").send_keys(Keys.ARROW_RIGHT)
    wait.until(lambda b: now(b)[0] not in (None, picture))
    wait.until(lambda b: b.execute_script(KERNEL_IS_READY))  # all five steps are drawn
    assert now(browser)[1] not in ("", said), "a screen reader is told what was drawn before"
    pictures, texts = told(browser)
    assert len({now(browser)[1], *pictures}) > 2, "the stills above are told, too"
    assert set(pictures) & set(texts) == set(), "said twice"
    browser.save_screenshot(str(OUTPUT / f"{path.stem}_after.png"))


# ---------------------------------------------------------------------------- alternative text


def sentences() -> list[str]:
    """What reads the figures of the committed notebook 03, in order."""
    notebook = nbformat.read(ROOT / "notebooks" / "03_synflow.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.data["text/plain"] for output in outputs if "text/html" in output.get("data", {})]
    return [line.removeprefix("Figure: ") for text in texts for line in text.splitlines()]


def in_jupyterlab(browser, lab, tmp_path) -> None:
    """Opened and not run: JupyterLab does not trust the file, and cleans its HTML."""
    address, folder = lab
    browser.get(address.format(synflow(folder).name))


def exported(browser, lab, tmp_path) -> None:
    browser.get(export(tmp_path).as_uri())


def in_a_frame(browser, lab, tmp_path) -> None:
    """As Colab and VS Code do it: every output a page of its own, in a frame."""
    notebook = nbformat.read(ROOT / "notebooks" / "03_synflow.ipynb", as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    frames = [f'<iframe srcdoc="{html.escape(page)}"></iframe>' for page in pages]
    (tmp_path / "frames.html").write_text("\n".join(frames), encoding="utf-8")
    browser.get((tmp_path / "frames.html").as_uri())


def told(browser) -> tuple[list[str], list[str]]:
    """(names of the pictures, all texts) in the browser's accessibility tree: what a screen reader has to go by."""
    frames = [browser.execute_cdp_cmd("Page.getFrameTree", {})["frameTree"]]
    frames += frames[0].get("childFrames", [])
    nodes = []
    for frame in frames:
        nodes += browser.execute_cdp_cmd("Accessibility.getFullAXTree", {"frameId": frame["frame"]["id"]})["nodes"]
    nodes = [(n.get("role", {}).get("value"), n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    return [name for role, name in nodes if role in ("image", "img")], [n for role, n in nodes if role == "StaticText"]


@pytest.mark.parametrize("place", [in_jupyterlab, exported, in_a_frame])
def test_a_screen_reader_is_told_each_figures_sentence_once(place, lab, browser, tmp_path):
    from selenium.webdriver.support.ui import WebDriverWait

    place(browser, lab, tmp_path)
    browser.execute_cdp_cmd("Accessibility.enable", {})
    expected = sentences()
    assert len(expected) == 6
    wait = WebDriverWait(browser, PATIENCE, poll_frequency=0.5)
    pictures, texts = wait.until(lambda b: (seen := told(b)) and set(expected) <= set(seen[0]) and seen)
    assert [name for name in pictures if name in expected] == expected
    if place is not in_jupyterlab:  # which drops `aria-hidden` from a file it does not trust: until the cell is run
        assert [text for text in texts if text in expected] == []
    browser.save_screenshot(str(OUTPUT / f"03_{place.__name__}.png"))


@pytest.mark.parametrize("place", [in_jupyterlab, exported])
def test_each_figures_sentence_is_seen_once_below_it_and_the_picture_is_whole(place, lab, browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    place(browser, lab, tmp_path)
    expected = sentences()

    def figures(b):
        found = [(f, f.find_element(By.TAG_NAME, "img")) for f in b.find_elements(By.TAG_NAME, "figure")]
        loaded = [i.get_property("naturalWidth") for _, i in found]
        return found if len(found) == len(expected) and all(loaded) else None

    found = WebDriverWait(browser, PATIENCE, poll_frequency=0.5).until(figures)
    assert [figure.text for figure, _ in found] == expected
    for figure, picture in found:
        assert picture.size["width"] > 200
        assert figure.find_element(By.TAG_NAME, "figcaption").rect["y"] >= picture.rect["y"] + picture.rect["height"]


# ---------------------------------------------------------------------------- pages and slides


def export(folder: Path) -> Path:
    command = [sys.executable, ROOT / "data_scripts" / "export_notebooks.py", "--to", folder, "03"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "03_synflow.html"


def test_an_exported_page_cuts_no_line_of_code(browser, tmp_path):
    browser.set_window_size(1000, 1200)
    browser.get(export(tmp_path).as_uri())
    widths = browser.execute_script(
        "return [...document.querySelectorAll('.jp-InputArea pre, .jp-OutputArea pre')].map("
        "e => [e.scrollWidth - e.clientWidth, e.getBoundingClientRect().right - document.documentElement.clientWidth])"
    )
    assert len(widths) > 30
    assert max(max(cut, beyond) for cut, beyond in widths) <= 1


KERNEL_IS_READY = """
const panel = window.jupyterapp.shell.currentWidget;
return panel?.sessionContext?.session?.kernel?.status === "idle";
"""

PICTURE = """
const [box, done] = arguments;
const image = box.querySelector("img");
if (!image?.complete || image.naturalWidth === 0) { done([null, ""]); return; }
const canvas = document.createElement("canvas");
canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
canvas.getContext("2d").drawImage(image, 0, 0);
done([canvas.toDataURL(), image.alt]);
"""


@pytest.fixture(autouse=True, scope="module")
def output_folder():
    OUTPUT.mkdir(parents=True, exist_ok=True)
