"""A headless Chromium in which tests open pages; what it takes to drive one stands here alone."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # as root, as in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
AXE = "axe_playwright_python"
"""The package that ships axe-core, of which nothing else is used."""

BEFORE = "window.ran = []; for (const name of ['alert', 'confirm', 'prompt']) window[name] = (x) => window.ran.push(x);"
"""Runs before each page, and notes what a page must not do."""


class Browser:
    """A browser in which a test opens one page after the other.

    Attributes:
        driver: selenium's, for what has no name here.
    """

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads
        self._errors: list[str] = []
        self._requests: list[str] = []
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": BEFORE})
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})

    def open(self, place: str | Path, *, width: int = 1280, height: int = 900, theme: str = "light") -> None:
        """Open a file or an address as somebody does who has not been there before."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
        self.system_theme(theme)
        self.resize(width, height)
        self._read_logs()
        self._errors, self._requests = [], []
        self.driver.get(Path(place).absolute().as_uri() if isinstance(place, Path) else place)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window a size in pixels of CSS, however narrow."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def system_theme(self, theme: str) -> None:
        """Set what the system prefers, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})

    def js(self, expression: str, *arguments: Any) -> Any:
        """Return what an expression of JavaScript is; `arguments` holds the arguments."""
        return self.driver.execute_script(f"return {expression}", *arguments)

    def wait(self, expression: str, *arguments: Any, seconds: float = 20.0) -> Any:
        """Return an expression once it is true, and fail where it does not become so."""
        end = time.monotonic() + seconds
        while not (value := self.js(expression, *arguments)):
            assert time.monotonic() < end, f"not true within {seconds:g} s: {expression}; {self.errors()}"
            time.sleep(0.03)
        return value

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Return what a function returns once it is true, and fail where it does not become so."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, f"not true within {seconds:g} s; {self.errors()}"
            time.sleep(0.03)
        return value

    def all(self, selector: str) -> list[Any]:
        """Return the elements of a CSS selector."""
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        """Return the only element of a CSS selector."""
        (found,) = self.all(selector)
        return found

    def text(self) -> str:
        """Return all text of the page, that of closed parts and of pictures, too, but not of scripts and styles."""
        return str(
            self.js(
                "(() => { const copy = document.body.cloneNode(true);"
                "for (const one of copy.querySelectorAll('script, style')) one.remove();"
                "return copy.textContent; })()"
            )
        )

    def show(self, element: Any) -> None:
        """Scroll an element into the middle of the window."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)

    def hover(self, element: Any) -> None:
        """Move the pointer onto an element."""
        from selenium.webdriver import ActionChains

        self.show(element)
        ActionChains(self.driver, duration=0).move_to_element(element).perform()

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, where the focus is."""
        from selenium.webdriver import ActionChains

        chain = ActionChains(self.driver, duration=0)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def draw_all(self) -> int:
        """Scroll through the page until all charts are drawn, and return how many there are."""
        charts = self.all(".chart")
        for chart in charts:
            self.show(chart)
            self.wait("arguments[0].querySelector('svg') || arguments[0].matches('.notice')", chart)
        return len(charts)

    def errors(self) -> list[str]:
        """Return what the page complained of in the console since it was opened."""
        self._read_logs()
        return list(self._errors)

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for since it was opened."""
        self._read_logs()
        return list(self._requests)

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.js("document.scrollingElement.scrollWidth - document.documentElement.clientWidth"))

    def axe(self, *, charts: bool = True) -> list[str]:
        """Return what axe-core finds to be seriously wrong for those who do not see, or use no pointer.

        Args:
            charts: whether it looks at each mark, too, which takes seconds.
        """
        if not self.js("typeof axe === 'object'"):
            package = pytest.importorskip(
                AXE, reason=f"{AXE}, which ships axe-core, is not installed: pip install -e .[dev]"
            )
            source = (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
            # Beside the page's policy, which lets no other script in.
            self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": source})
        found = self.driver.execute_async_script(
            "const [inner, done] = arguments;"
            "axe.run(inner ? document : {exclude: [['.chart svg']]}, {resultTypes: ['violations']})"
            ".then((found) => done(found.violations), (error) => done(String(error)))",
            charts,
        )
        assert isinstance(found, list), found
        return [
            f"{one['impact']}: {one['id']}, {one['help']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    def _read_logs(self) -> None:
        for entry in self.driver.get_log("browser"):
            # Vega's own word for a layer without rows, of which a chart may have some.
            harmless = "favicon" in entry["message"] or "Infinite extent" in entry["message"]
            if entry["level"] in ("SEVERE", "WARNING") and not harmless:
                self._errors.append(entry["message"])
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self._requests.append(message["params"]["request"]["url"])


@contextmanager
def start_browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with a profile in a folder; skips the test where there is none."""
    program = _first(("chromium", "chromium-browser", "google-chrome"))
    driver = _first(("chromedriver", "/usr/lib/chromium-browser/chromedriver"))
    if program is None or driver is None:
        pytest.skip("there is no Chromium with its chromedriver; as root: scripts/browser.sh")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    # Both places are given, so Selenium Manager has nothing to look for; should it be asked, it stays offline.
    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in (*SWITCHES, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        started.set_script_timeout(60)
        yield Browser(started, folder / "downloads")
    finally:
        started.quit()


def _first(names: Sequence[str]) -> str | None:
    return next((path for name in names if (path := shutil.which(name))), None)
