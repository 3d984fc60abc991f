"""A Chromium without a window, and what a reader does with a page."""

import shutil
import time

from helpers.late import Late

webdriver = Late("selenium.webdriver", "selenium is not installed")
exceptions = Late("selenium.common.exceptions", "selenium is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
NAME = "toy_ratio-4"
# As a superuser, as in a container, Chromium has no sandbox.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)


class Page:
    """What a reader does with a page, and sees of it."""

    def __init__(self, browser, folder):
        self.browser, self.folder = browser, folder

    def open(self, address):
        # A change of the part behind # alone would load nothing.
        self.browser.get("about:blank")
        self.browser.get(f"{self.folder.as_uri()}/{address}")

    def all(self, selector):
        return self.browser.find_elements("css selector", selector)

    def one(self, selector):
        return self.until(lambda: next(iter(self.all(selector)), None))

    def click(self, selector):
        """Clicks an element; again where the page drew it anew in between."""

        def clicked():
            try:
                self.one(selector).click()
            except exceptions.StaleElementReferenceException:
                return False
            return True

        self.until(clicked)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def text(self, selector):
        """Text content, also of what is hidden or clipped; None where there is nothing."""
        return self.run(
            "return document.querySelector(arguments[0])?.textContent ?? null", selector
        )

    def texts(self, selector):
        return self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)",
            selector,
        )

    def until(self, holds, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.02)
        raise AssertionError("what was waited for did not come")

    def shows(self, latent):
        """Waits until a latent is shown, and is what the address says."""
        number, address = f"#{latent}", f"#feature={latent}"
        self.until(lambda: self.text(".heading h2 .number") == number)
        self.until(lambda: self.run("return location.hash") == address)
        assert self.run("return document.title") == f"{number} - {NAME}"
        return True

    def keys(self, selector, keys):
        self.one(selector).send_keys(keys)

    def choose(self, selector, value):
        self.one(f"{selector} option[value='{value}']").click()

    def search(self, text):
        self.run(
            "const box = document.getElementById('search'); box.value = arguments[0];"
            "box.dispatchEvent(new Event('input'))",
            text,
        )

    def listed(self):
        """Numbers of the latents in the list, those in sight."""
        return [int(text[1:]) for text in self.texts("#rows .number")]

    def found(self):
        """How many latents the list says that it has."""
        return int(self.text("#count").split()[0].replace(",", "").replace("None", "0"))
