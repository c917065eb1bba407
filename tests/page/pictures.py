"""The pictures of `docs/watching.md`, taken anew: `make pictures`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "controlplane")]

from page_scenes import all_of_them  # noqa: E402 - the folders above are what pytest adds by itself
from plane_calls import Project  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from window import a_window  # noqa: E402

from server import start_control_plane  # noqa: E402

PLACE: Final = Path(__file__).parents[2] / "docs" / "pictures"
WIDE: Final = {"viewport": {"width": 1040, "height": 600}}
HIGH: Final = {"viewport": {"width": 1040, "height": 760}}
PHONE: Final = {"viewport": {"width": 360, "height": 700}, "device_scale_factor": 1.0}
DARK: Final = {"color_scheme": "dark"}
PICTURES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "jobs": ("/jobs", WIDE),
    "job": ("/jobs/{inference}", WIDE),
    "answered": ("/jobs/{answered}", WIDE),
    "phone-answered": ("/jobs/{answered}", PHONE),
    "phone-backtest": ("/jobs/{backtesting}", PHONE),
    "job-dark": ("/jobs/{tuning}", HIGH | DARK),
    "backtest": ("/jobs/{backtesting}", WIDE),
    "scoring": ("/jobs/{scoring}", WIDE),
    "agents": ("/agents", WIDE),
    "phone": ("/jobs", PHONE),
    "phone-job": ("/jobs/{tuning}", PHONE | DARK),
    "tokens": ("/tokens", WIDE | DARK),
}
SHOWN: Final = ("jobs", "job-dark", "phone")
"""Those that the page of documentation has; the others are for whoever changes the page."""


def main(place: Path, names: tuple[str, ...], *, is_whole: bool) -> None:
    """Take the pictures called *names* into *place*; of whole pages, or of what is seen first."""
    place.mkdir(parents=True, exist_ok=True)
    found = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        start_control_plane(Path(folder)) as plane,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        project = Project(plane.url, plane.tokens)
        made = all_of_them(project)
        for name in names:
            path, more = PICTURES[name]
            with a_window(browser, plane.url, **more) as window:
                window.sign_in(plane.tokens.admin)
                window.go(path.format(**made))
                window.page.wait_for_selector("body[data-state], table")
                window.page.screenshot(path=place / f"{name}.png", full_page=is_whole)
        project.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), tuple(PICTURES), is_whole=True)
    else:
        main(PLACE, SHOWN, is_whole=False)
