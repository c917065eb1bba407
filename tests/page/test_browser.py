"""The page in a real browser: what a person does with it, and what an attacker cannot."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostile import PAYLOADS, plant
from page_scenes import LOG, Scene, all_of_them, inference
from plane_calls import Project
from playwright.sync_api import Browser, Route, expect
from window import Window, a_window

from overmind_controlplane.access import authenticate
from overmind_controlplane.plane import Plane, Settings
from server import ControlPlaneProcess

# The page forgets which parts it shows, so that all of them are put there anew, as if they had changed.
FORGET = """
addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll("[data-digest]")) part.dataset.digest = "";
});
"""
PHONE = {"width": 360, "height": 740}


@pytest.fixture
def window(browser: Browser, project: Project) -> Iterator[Window]:
    """A window that has signed in as an administrator; nothing that it should not do was tried."""
    with a_window(browser, project.url) as opened:
        opened.sign_in(project.tokens.admin)
        yield opened
        assert [] == opened.misdeeds


def test_a_job_is_followed_from_the_list_to_its_end_without_a_mouse(scene: Scene, window: Window) -> None:
    page, job_id = window.page, inference(scene)

    page.locator(f"#job-{job_id}").wait_for()  # the list was empty when the window opened
    page.locator(f"#job-{job_id}").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#log")).to_contain_text("22 right so far")
    end = scene.write(job_id, " 32 of 64   30 right so far\n", len(LOG))
    expect(page.locator("#log")).to_contain_text("30 right so far")
    scene.progress(job_id, 32, 64, "rows")
    expect(page.locator("#part-state .count")).to_have_text("32/64")
    scene.write(job_id, "done\n", end)
    scene.add_file(job_id, "answers.jsonl", b"{}\n")
    scene.complete(job_id, "64 of 64 rows", {"best_score": 93.75})

    expect(page.locator("#part-state .status")).to_have_text("Completed")
    expect(page.locator("#part-history li")).to_have_count(6)
    expect(page.locator("#log")).to_contain_text("done")
    expect(page.locator("body")).to_have_attribute("data-state", "ended")
    with page.expect_download() as given:
        page.get_by_role("link", name="answers.jsonl").click()
    assert "answers.jsonl" == given.value.suggested_filename


def test_who_reads_further_up_is_left_there_and_what_was_opened_stays_open(scene: Scene, window: Window) -> None:
    page, job_id = window.page, inference(scene)
    end = scene.write(job_id, "line\n" * 200, len(LOG))
    window.go(f"/jobs/{job_id}")
    page.locator("#log").evaluate("log => { log.scrollTop = 0; }")
    expect(page.locator("#follow")).not_to_be_checked()

    scene.write(job_id, "the last line\n", end)
    expect(page.locator("#log")).to_contain_text("the last line")

    assert 0 == page.locator("#log").evaluate("log => log.scrollTop")
    page.locator("#follow").check()
    scene.write(job_id, "one more\n", end + len("the last line\n"))
    expect(page.locator("#log")).to_contain_text("one more")
    assert page.locator("#log").evaluate("log => log.scrollTop") > 0


def test_signing_out_ends_the_visit(window: Window) -> None:
    page = window.page

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    window.go("/agents")

    assert "Sign in" in page.title()


def test_every_page_fits_a_phone_and_shows_its_charts(project: Project, browser: Browser) -> None:
    made = all_of_them(project)
    pages = ["/jobs", "/agents", "/tokens", *(f"/jobs/{job_id}" for job_id in made.values())]

    with a_window(browser, project.url, viewport=PHONE, color_scheme="dark") as window:
        window.sign_in(project.tokens.admin)
        too_wide = []
        for path in pages:
            window.go(path)
            if window.page.evaluate("document.scrollingElement.scrollWidth > innerWidth"):
                too_wide.append(path)
        window.go(f"/jobs/{made['tuning']}")
        marks = window.page.locator("svg.course circle").count()
        grounds = window.page.evaluate("getComputedStyle(document.body).backgroundColor")
        misdeeds = window.misdeeds

    assert [] == too_wide
    assert 6 == marks  # the held-out rows stand beside no others
    assert "rgb(17, 21, 28)" == grounds  # the dark one
    assert [] == misdeeds


def test_forty_payloads_in_every_field_do_nothing(
    project: Project, plane: ControlPlaneProcess, window: Window
) -> None:
    """No dialog, no request to elsewhere, no script of theirs, and nothing that only the policy stopped."""
    page, job_ids = window.page, plant_all(plane, project)
    page.add_init_script(FORGET)
    pages = ["/jobs", "/jobs?page=2", "/agents", "/tokens", *(f"/jobs/{job_id}" for job_id in job_ids)]

    pwned = []
    for path in pages:
        window.go(path)
        if path.startswith("/jobs/"):
            page.locator("#part-made:not([data-digest=''])").wait_for()  # the last part has come by the stream
        if page.evaluate("window.pwned || document.querySelector('iframe, object, embed, base, style, [onload]')"):
            pwned.append(path)

    assert 40 == len(PAYLOADS) == len(job_ids)
    assert [] == pwned
    assert [] == window.misdeeds


def plant_all(plane: ControlPlaneProcess, project: Project) -> list[str]:
    """A job for each payload; their ids."""
    own = Plane.build(Settings(data=plane.data))
    try:
        with own.database.write() as session:
            caller = authenticate(session, project.tokens.admin)
            return [plant(session, own, caller, payload) for payload in PAYLOADS]
    finally:
        own.database.close()


def test_what_slipped_through_would_be_stopped_by_the_policy(project: Project, browser: Browser) -> None:
    """As if a template did not escape: the browser itself refuses scripts, handlers, styles and strangers."""
    # No policy keeps a page from being left, so that one payload would take the others along.
    smuggled = "".join(payload for payload in PAYLOADS[:34] if "refresh" not in payload)

    def spoil(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace("</main>", smuggled + "</main>"))

    with a_window(browser, project.url) as window:
        window.sign_in(project.tokens.admin)
        window.page.route("**/agents", spoil)
        window.go("/agents")
        window.page.locator("body[data-state]").wait_for()
        pwned = window.page.evaluate("window.pwned || 0")
        misdeeds, strangers = window.misdeeds, window.strangers

    assert 0 == pwned
    assert misdeeds, "nothing was smuggled in: the test has lost its subject"
    assert [] == [one for one in misdeeds if one.startswith("dialog")]
    assert {"csp"} == {sent.failure for sent in strangers}
