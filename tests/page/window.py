"""A window of the browser: signed in, and with an eye on what the page tries that it should not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Dialog, Page, Request

DEADLINE_MS = 15_000


@dataclass
class Window:
    """
    A page of the browser.

    Attributes:
        misdeeds: dialogs that opened, requests to elsewhere, scripts and styles that the policy stopped.
        strangers: those requests, whether they left the browser or not.
    """

    page: Page
    url: str
    misdeeds: list[str] = field(default_factory=list)
    strangers: list[Request] = field(default_factory=list)

    def go(self, path: str) -> None:
        """Open an address of the server."""
        self.page.goto(self.url + path)

    def sign_in(self, token: str) -> None:
        """As a person does who has no mouse."""
        self.go("/")
        self.page.wait_for_selector("#token:focus")
        self.page.keyboard.insert_text(token)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(f"{self.url}/jobs")


@contextmanager
def a_window(browser: Browser, url: str, **more: Any) -> Iterator[Window]:
    """A window on the server at *url*; *more* is of `Browser.new_context`, such as its size."""
    context = browser.new_context(**more)
    context.set_default_timeout(DEADLINE_MS)
    window = Window(context.new_page(), url)

    def dialog(opened: Dialog) -> None:
        window.misdeeds.append(f"dialog {opened.message}")
        opened.dismiss()

    def request(sent: Request) -> None:
        if not sent.url.startswith(url):
            window.misdeeds.append(f"request {sent.url}")
            window.strangers.append(sent)

    window.page.on("dialog", dialog)
    context.on("request", request)
    window.page.on("console", lambda said: window.misdeeds.append(said.text) if said.type == "error" else None)
    window.page.on("pageerror", lambda error: window.misdeeds.append(str(error)))
    try:
        yield window
    finally:
        context.close()
