"""The operators' page in a real browser, against a launcher with real backends."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.conftest import Make, container, no_image_left  # noqa: F401 - fixtures
from tests.e2e.serving import Launcher, container_route, process_route
from tests.ui.conftest import Open
from tests.ui.looking import PATIENCE, card, fits, live, press, stands

NASTY = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Two that share a place, one that has its own, and one that can't start."""
    routes = (
        process_route("one", lines='models = ["one-general"]\nmax_wait = "200ms"')
        + process_route("two", lines='max_wait = "200ms"', START_DELAY="1.5")
        + process_route("aside", lines="needs = {}", LOG_REQUESTS="1", NAME=NASTY)
        + process_route("broken", lines="needs = {}", EXIT_CODE="3")
    )
    with Launcher(tmp_path_factory.mktemp("page"), routes) as launcher:
        yield launcher


@pytest.fixture
def page(launcher: Launcher, open_page: Open) -> Page:
    page = open_page(f"{launcher.base}/admin")
    live(page)
    return page


def chat(launcher: Launcher, model: str, **more: object) -> int:
    body = json.dumps({"model": model, "messages": [], **more}).encode()
    kind = {"Content-Type": "application/json"}
    return launcher.request("POST", "/v1/chat/completions", body, **kind)[0]


def down(launcher: Launcher, name: str) -> None:
    """Whatever the tests before left of it."""
    assert launcher.request("POST", f"/api/routes/{name}/stop?wait=1")[0] == 200


class TestBackends:
    def test_start_and_stop_are_a_button_each(self, page: Page, launcher: Launcher) -> None:
        down(launcher, "aside")
        stands(page, "aside", "stopped")
        press(page, "aside", "Start")
        stands(page, "aside", "ready")
        assert launcher.state("aside") == "ready"
        expect(card(page, "aside").locator('[data-fact="starts"]')).not_to_have_text("0 ")
        expect(card(page, "aside").get_by_role("button", name="Start aside")).to_be_disabled()
        press(page, "aside", "Stop")
        stands(page, "aside", "stopped")

    def test_what_runs_is_asked_about_before_it_is_stopped(
        self, page: Page, launcher: Launcher
    ) -> None:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(chat, launcher, "aside", stream=True, x_tokens=60, x_delay=0.1)
            stands(page, "aside", "ready")
            expect(card(page, "aside").locator('[data-fact="flying"]')).to_have_text(
                re.compile("^1"), timeout=PATIENCE
            )
            press(page, "aside", "Stop")
            dialog = page.get_by_role("dialog", name="Stop aside?")
            expect(dialog).to_contain_text("1 request in flight")
            dialog.get_by_role("button", name="Stop after what runs").click()
            stands(page, "aside", "draining")
            assert running.result() == 200
            stands(page, "aside", "stopped")

    def test_a_start_that_fails_is_told_whole(self, page: Page) -> None:
        press(page, "broken", "Start")
        stands(page, "broken", "failed")
        trouble = card(page, "broken").locator(".trouble")
        expect(trouble).to_contain_text("exit code 3", timeout=PATIENCE, ignore_case=True)
        trouble.get_by_text("details").click()
        expect(trouble).to_contain_text("CUDA error: out of memory")

    def test_logs_are_followed_and_are_never_more_than_text(
        self, page: Page, launcher: Launcher
    ) -> None:
        assert launcher.get("/aside/echo")[0] == 200
        stands(page, "aside", "ready")
        press(page, "aside", "Logs")
        lines = page.get_by_label("Log lines")
        expect(lines).to_contain_text(f"{NASTY} listening on", timeout=PATIENCE)
        assert launcher.get("/aside/echo?<script>window.hit=1</script>")[0] in (200, 400)
        assert launcher.get("/aside/echo?%3Cscript%3E")[0] == 200
        expect(lines).to_contain_text("request GET /echo?%3Cscript%3E", timeout=PATIENCE)
        assert page.evaluate("window.hit") is None
        assert page.locator("main img[src=x], pre img, script:not([src])").count() == 0
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)

    def test_an_idle_one_counts_down(self, page: Page, launcher: Launcher) -> None:
        assert launcher.get("/aside/echo")[0] == 200
        stands(page, "aside", "ready")
        idle = card(page, "aside").locator('[data-fact="idle"]')
        expect(idle).to_have_text(re.compile(r"idle, stops in (10:00|9:\d\d)"), timeout=PATIENCE)


class TestSwap:
    def test_a_swap_is_shown_while_it_goes_on_and_says_why(
        self, page: Page, launcher: Launcher
    ) -> None:
        assert chat(launcher, "one-general") == 200
        stands(page, "one", "ready")
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(chat, launcher, "two")
            stands(page, "two", "starting")
            expect(page.locator("#health")).to_contain_text("1 request waiting", timeout=PATIENCE)
            expect(page.get_by_label(re.compile(r"gpu: two 1 \(starting\)"))).to_be_visible()
            stands(page, "two", "ready")
            stands(page, "one", "stopped")
            assert asked.result() == 200
        mark = page.locator(".mark").last
        expect(mark).to_have_attribute(
            "aria-label", re.compile("stops one: two waits for its place"), timeout=PATIENCE
        )
        assert page.locator("path.swap").count() >= 1
        page.get_by_text("What was decided, in words").click()
        expect(page.locator("#story")).to_contain_text("starts two: 1 request waiting")

    def test_the_picture_tells_in_words_and_by_keyboard(
        self, page: Page, launcher: Launcher
    ) -> None:
        for model in ("one-general", "two", "one-general"):
            assert chat(launcher, model) == 200
        stands(page, "one", "ready")
        expect(page.locator(".mark[tabindex='0']")).to_have_count(1, timeout=PATIENCE)
        page.locator(".mark[tabindex='0']").focus()
        tip = page.get_by_role("tooltip")
        expect(tip).to_be_visible()
        last = tip.text_content()
        page.keyboard.press("ArrowLeft")
        expect(tip).not_to_have_text(last or "")
        page.keyboard.press("End")
        page.keyboard.press("Escape")
        expect(tip).to_be_hidden()

    def test_how_far_back_is_chosen(self, page: Page) -> None:
        for name in ("5 min", "15 min", "1 hour"):
            page.get_by_role("radio", name=name, exact=True).check(force=True)
            expect(page.locator("#timeline svg")).to_contain_text("now")


class TestTryIt:
    def test_a_chat_streams_and_is_measured(self, page: Page) -> None:
        page.get_by_label("Model").select_option("two")
        page.get_by_label("Message").fill("Hello?")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_label("Answer")).to_have_text(
            "two-0 two-1 two-2 two-3 two-4 ", timeout=PATIENCE
        )
        expect(page.locator("#try-phase")).to_have_text("done")
        expect(page.locator("#try-waited")).to_have_text(re.compile(r"\d (ms|s)$"))
        expect(page.locator("#try-first")).to_have_text(re.compile(r"\d (ms|s)$"))
        expect(page.locator("#try-count")).to_have_text("5")

    def test_an_error_is_shown_whole(self, page: Page, expected: list[str]) -> None:
        expected.append("Failed to load resource: the server responded with a status of 503")
        page.get_by_label("Model").select_option("broken")
        page.get_by_role("button", name="Send").click()
        phase = page.locator("#try-phase")
        expect(phase).to_contain_text("503 backend_start_failed", timeout=PATIENCE)
        expect(page.get_by_label("Answer")).to_contain_text("CUDA error: out of memory")


class TestLooks:
    @pytest.mark.parametrize("width", [320, 390, 768, 1400])
    def test_nothing_is_wider_than_the_screen(
        self, launcher: Launcher, open_page: Open, width: int
    ) -> None:
        page = open_page(f"{launcher.base}/admin", width=width)
        live(page)
        assert fits(page)
        press(page, "aside", "Logs")
        assert fits(page)

    def test_light_and_dark_follow_the_system(self, launcher: Launcher, open_page: Open) -> None:
        paper = "getComputedStyle(document.body).backgroundColor"
        seen = []
        for scheme in ("light", "dark"):
            page = open_page(f"{launcher.base}/admin", color_scheme=scheme)
            live(page)
            seen.append([int(one) for one in re.findall(r"\d+", page.evaluate(paper))[:3]])
        assert min(seen[0]) > 200
        assert max(seen[1]) < 60

    def test_who_wants_no_motion_gets_none(self, launcher: Launcher, open_page: Open) -> None:
        page = open_page(f"{launcher.base}/admin", reduced_motion="reduce")
        live(page)
        assert page.evaluate("document.getAnimations().length") == 0

    def test_the_keyboard_is_enough(self, page: Page, launcher: Launcher) -> None:
        down(launcher, "aside")
        stands(page, "aside", "stopped")
        page.locator("body").focus()
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.ariaLabel") == "Start aside":
                break
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Enter")
        stands(page, "aside", "ready")
        expect(page.locator("#announce")).to_contain_text("aside is ready", timeout=PATIENCE)

    def test_what_others_wrote_is_text(self, tmp_path: Path, open_page: Open) -> None:
        script = "<script>window.hit=1</script>"
        routes = process_route("one", lines=f"models = [{json.dumps(NASTY)}, {json.dumps(script)}]")
        with Launcher(tmp_path, routes) as launcher:
            page = open_page(f"{launcher.base}/admin")
            live(page)
            for text in (NASTY, script):
                expect(card(page, "one").get_by_text(text)).to_be_visible(timeout=PATIENCE)
                expect(page.get_by_label("Model")).to_contain_text(text)
            assert page.evaluate("window.hit") is None
            assert page.locator("main img[src=x], main script").count() == 0
            page.close()


class TestKeys:
    TOP = 'api_keys = ["api-1"]\nadmin_keys = ["admin-1"]'

    def test_the_key_is_asked_for_once_and_kept_nowhere(
        self, tmp_path: Path, open_page: Open, expected: list[str]
    ) -> None:
        expected.append("Failed to load resource: the server responded with a status of 40")
        with Launcher(tmp_path, process_route("one"), top=self.TOP) as launcher:
            page = open_page(f"{launcher.base}/admin")
            dialog = page.get_by_role("dialog", name="A key, please")
            expect(dialog).to_be_visible(timeout=PATIENCE)
            expect(page.locator("#main")).to_be_hidden()
            dialog.get_by_label("Key").fill("nonsense")
            dialog.get_by_role("button", name="Open").click()
            expect(dialog.get_by_role("alert")).to_contain_text("doesn't open", timeout=PATIENCE)
            dialog.get_by_label("Key").fill("admin-1")
            page.keyboard.press("Enter")
            live(page)
            press(page, "one", "Start")
            stands(page, "one", "ready")
            kept = "JSON.stringify([location.href, document.cookie, localStorage, sessionStorage])"
            assert "admin-1" not in page.evaluate(kept)
            assert page.context.cookies() == []
            assert "admin-1" not in page.content()
            assert "admin-1" not in launcher.log()
            page.reload(wait_until="commit")
            expect(dialog).to_be_visible(timeout=PATIENCE)
            page.close()

    def test_a_late_refusal_of_no_key_does_not_ask_for_the_key_again(
        self, tmp_path: Path, open_page: Open, expected: list[str]
    ) -> None:
        expected.append("Failed to load resource: the server responded with a status of 40")
        with Launcher(tmp_path, process_route("one"), top=self.TOP) as launcher:
            page = open_page(f"{launcher.base}/admin")
            dialog = page.get_by_role("dialog", name="A key, please")
            expect(dialog).to_be_visible(timeout=PATIENCE)
            late: list[Route] = []

            def hold(route: Route) -> None:
                if late or "authorization" in route.request.headers:
                    route.continue_()
                else:
                    late.append(route)

            page.route("**/api/timeline", hold)
            with page.expect_request("**/api/timeline", timeout=PATIENCE):
                pass
            dialog.get_by_label("Key").fill("admin-1")
            page.keyboard.press("Enter")
            live(page)
            with page.expect_response(lambda answer: answer.status == 401, timeout=PATIENCE):
                late[0].continue_()
            press(page, "one", "Start")
            stands(page, "one", "ready")
            page.close()

    def test_a_key_that_may_not_even_look_is_told_so_and_another_asked_for(
        self, tmp_path: Path, open_page: Open, expected: list[str]
    ) -> None:
        expected.append("Failed to load resource: the server responded with a status of 40")
        routes = process_route("one") + '[keys.app]\nvalue = "app-1"\nscopes = ["infer"]\n'
        with Launcher(tmp_path, routes, top=self.TOP) as launcher:
            page = open_page(f"{launcher.base}/admin")
            dialog = page.get_by_role("dialog", name="A key, please")
            dialog.get_by_label("Key").fill("app-1")
            page.keyboard.press("Enter")
            expect(dialog.get_by_role("alert")).to_contain_text("observe", timeout=PATIENCE)
            dialog.get_by_label("Key").fill("admin-1")
            page.keyboard.press("Enter")
            live(page)
            page.close()

    def test_who_may_only_look_is_told_so(
        self, tmp_path: Path, open_page: Open, expected: list[str]
    ) -> None:
        expected.append("Failed to load resource: the server responded with a status of 40")
        with Launcher(tmp_path, process_route("one"), top=self.TOP) as launcher:
            page = open_page(f"{launcher.base}/admin")
            page.get_by_label("Key", exact=True).fill("api-1")
            page.keyboard.press("Enter")
            live(page)
            press(page, "one", "Start")
            expect(page.locator("#toasts")).to_contain_text("`admin`", timeout=PATIENCE)
            stands(page, "one", "stopped")
            page.close()


class TestTheLink:
    def test_a_launcher_that_went_away_and_came_back_is_followed_on(
        self, tmp_path: Path, open_page: Open, expected: list[str]
    ) -> None:
        expected += ["Failed to load resource: net::", "Failed to load resource: the server"]
        with Launcher(tmp_path, process_route("one")) as launcher:
            page = open_page(f"{launcher.base}/admin")
            live(page)
            port = launcher.base.rpartition(":")[2]
            launcher.kill()
            expect(page.locator("#link")).to_contain_text("connection lost", timeout=PATIENCE)
            launcher.file.write_text(launcher.file.read_text().replace(":0", f":{port}"))
            launcher.start()
            live(page)
            press(page, "one", "Start")
            stands(page, "one", "ready")

    def test_a_page_that_is_open_holds_up_no_shutdown(
        self, tmp_path: Path, open_page: Open, expected: list[str]
    ) -> None:
        expected += ["Failed to load resource"]
        with Launcher(tmp_path, process_route("one"), top='drain_timeout = "10m"') as launcher:
            page = open_page(f"{launcher.base}/admin")
            live(page)
            press(page, "one", "Start")
            stands(page, "one", "ready")
            press(page, "one", "Logs")
            expect(page.get_by_label("Log lines")).to_contain_text("listening", timeout=PATIENCE)
            assert launcher.stop() == 0


@pytest.mark.docker
def test_containers_are_shown_swapped_and_their_output_followed(
    tmp_path: Path,
    container: Make,  # noqa: F811
    open_page: Open,
) -> None:
    routes = container_route("left", container("left"))
    right = container("right", LOG_REQUESTS="1")
    routes += container_route("right", right, lines='models = ["right"]')
    with Launcher(tmp_path, routes) as launcher:
        page = open_page(f"{launcher.base}/admin")
        live(page)
        press(page, "left", "Start")
        stands(page, "left", "ready")
        assert chat(launcher, "right") == 200
        stands(page, "right", "ready")
        stands(page, "left", "stopped")
        press(page, "right", "Logs")
        lines = page.get_by_label("Log lines")
        expect(lines).to_contain_text("right listening on", timeout=PATIENCE)
        with urllib.request.urlopen(f"{launcher.base}/right/echo?told") as answer:
            assert answer.status == 200
        expect(lines).to_contain_text("request GET /echo?told", timeout=PATIENCE)
        page.close()


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Two that share a place, and a mode."""
    routes = process_route("one") + process_route("two", START_DELAY="1")
    routes += '[modes.image]\nroutes = ["two"]\nttl = "45m"\n'
    with Launcher(tmp_path_factory.mktemp("operate"), routes) as launcher:
        yield launcher


class TestOperating:
    def test_a_switch_tells_its_steps_as_they_are_taken(
        self, operated: Launcher, open_page: Open
    ) -> None:
        assert chat(operated, "one") == 200
        page = open_page(f"{operated.base}/admin")
        live(page)
        page.get_by_label("Route", exact=True).select_option("two")
        page.get_by_role("button", name="Switch", exact=True).click()
        steps = page.locator("#switching .steps")
        expect(steps).to_contain_text("stop one", timeout=PATIENCE)
        expect(steps).to_contain_text("start two", timeout=PATIENCE)
        stands(page, "two", "ready")
        expect(page.locator("#switching [role=status]")).to_contain_text(
            re.compile(r"To two: .* after "), timeout=PATIENCE
        )

    def test_a_lease_is_taken_renewed_shown_and_released(
        self, operated: Launcher, open_page: Open
    ) -> None:
        page = open_page(f"{operated.base}/admin")
        live(page)
        page.get_by_label("Hold", exact=True).select_option("one")
        page.get_by_label("for", exact=True).fill("20m")
        page.get_by_label("Note").fill("a <b>demo</b>")
        page.get_by_role("button", name="Lease", exact=True).click()
        leases = page.locator("#leases li")
        expect(leases).to_contain_text("one: a <b>demo</b>", timeout=PATIENCE)
        expect(leases).to_contain_text(re.compile(r"(20:00|19:\d\d)"), timeout=PATIENCE)
        expect(card(page, "one")).to_contain_text("held until", timeout=PATIENCE)
        expect(page.get_by_label(re.compile(r"^gpu: one 1 "))).to_contain_text("one · held")
        page.get_by_label("for", exact=True).fill("1h")
        page.get_by_role("button", name="Renew lease on one").click()
        expect(leases).to_contain_text(re.compile(r"(1:00:00|59:\d\d)"), timeout=PATIENCE)
        page.get_by_role("button", name="Release lease on one").click()
        expect(leases).to_have_count(0, timeout=PATIENCE)

    def test_room_is_kept_free_for_work_outside(self, operated: Launcher, open_page: Open) -> None:
        page = open_page(f"{operated.base}/admin")
        live(page)
        page.get_by_label("Hold", exact=True).select_option(label="no route: keep room free")
        page.get_by_label("How much").fill("gpu 1")
        page.get_by_label("Note").fill("a game")
        page.get_by_role("button", name="Lease", exact=True).click()
        expect(page.locator("#capacity")).to_contain_text("a game", timeout=PATIENCE)
        stands(page, "one", "stopped")
        stands(page, "two", "stopped")
        page.get_by_role("button", name="Release lease on room kept free").click()
        expect(page.locator("#capacity")).not_to_contain_text("a game", timeout=PATIENCE)

    def test_a_pin_is_a_button(self, operated: Launcher, open_page: Open) -> None:
        page = open_page(f"{operated.base}/admin")
        live(page)
        press(page, "one", "Pin")
        stands(page, "one", "ready")
        expect(card(page, "one")).to_contain_text("pinned", timeout=PATIENCE)
        button = card(page, "one").get_by_role("button", name="Unpin one")
        expect(button).to_have_attribute("aria-pressed", "true")
        button.click()
        expect(page.locator("#leases li")).to_have_count(0, timeout=PATIENCE)

    def test_a_mode_is_entered_and_left(self, operated: Launcher, open_page: Open) -> None:
        page = open_page(f"{operated.base}/admin")
        live(page)
        mode = page.get_by_role("button", name="image", exact=True)
        mode.click(timeout=PATIENCE)
        expect(mode).to_have_attribute("aria-pressed", "true", timeout=PATIENCE)
        stands(page, "two", "ready")
        mode.click()
        expect(mode).to_have_attribute("aria-pressed", "false", timeout=PATIENCE)

    def test_drain_resume_and_reload(
        self, operated: Launcher, open_page: Open, expected: list[str]
    ) -> None:
        expected.append("Failed to load resource: the server responded with a status of 4")
        page = open_page(f"{operated.base}/admin")
        live(page)
        page.get_by_role("button", name="Drain", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Drain").click()
        expect(card(page, "one")).to_contain_text("drained", timeout=PATIENCE)
        assert chat(operated, "one") == 503
        page.get_by_role("button", name="Resume").click()
        expect(card(page, "one")).not_to_contain_text("drained", timeout=PATIENCE)
        text = operated.file.read_text()
        operated.file.write_text(text + process_route("three"))
        page.get_by_role("button", name="Reload routes").click()
        stands(page, "three", "stopped")
        expect(page.locator("#toasts")).to_contain_text("added: three")
        operated.file.write_text("[routes.one]\n")
        page.get_by_role("button", name="Reload routes").click()
        expect(page.locator("#toasts [data-tone=bad]")).to_be_visible(timeout=PATIENCE)
        operated.file.write_text(text)
