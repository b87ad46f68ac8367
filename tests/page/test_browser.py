"""The page in a real browser: it draws, tells errors at their fields, and can be used by keyboard, dark and narrow."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from tests.support.daemon import Daemon
from tests.support.tools import need

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.page

WAIT_S = 60.0
LUMINANCE = """
const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
return (r + g + b) / 765;
"""
UNNAMED = """
const isNamed = (own) => own.labels?.length || own.getAttribute("aria-label") || own.textContent.trim();
const all = [...document.querySelectorAll("input, select, textarea, button")];
return all.filter((own) => !isNamed(own)).map((own) => own.id);
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon("--http-ui") as daemon:
        yield daemon


class Page:
    """The page, loaded and drawn."""

    def __init__(self, browser: webdriver.Chrome, daemon: Daemon) -> None:
        self.browser = browser
        browser.get(f"http://{daemon.metrics_address}/")
        self.until(lambda: "can be drawn" in self.text("summary"))

    def until(self, condition) -> None:
        WebDriverWait(self.browser, WAIT_S, 0.05).until(lambda _: condition())

    def find(self, own: str) -> WebElement:
        return self.browser.find_element(By.ID, own)

    def text(self, own: str) -> str:
        return self.find(own).text

    def rows(self) -> list[list[str]]:
        """The table's cells: id, before, after, drawn."""
        rows = "[...document.querySelectorAll('#rows tr')]"
        found = self.browser.execute_script(f"return {rows}.map((row) => [...row.cells].map((own) => own.textContent))")
        return [row[:4] for row in found if len(row) > 1]

    def asked(self) -> dict:
        """The request that the page shows."""
        return json.loads(self.text("code"))

    def type(self, own: str, text: str) -> None:
        """Let a field hold this text, also one in a group that is folded."""
        change = "[own, text] = arguments; own.value = text; own.dispatchEvent(new Event('input', {bubbles: true}))"
        self.browser.execute_script(f"let own, text; {change}", self.find(own), text)

    def problems(self) -> dict[str, str]:
        """What is said at which field."""
        found = "[...document.querySelectorAll('.problem')]"
        field = "own.parentElement.querySelector('[aria-invalid]').id"
        return dict(self.browser.execute_script(f"return {found}.map((own) => [{field}, own.textContent])"))

    def errors(self) -> list[str]:
        """What the browser complains of, without the refusals that a test asks for."""
        said = [line["message"] for line in self.browser.get_log("browser")]
        return [line for line in said if "400 (Bad Request)" not in line]


@pytest.fixture(params=["wide"])
def page(request, daemon) -> Iterator[Page]:
    options = webdriver.ChromeOptions()
    options.binary_location = need("chromium")
    width = {"wide": 1400, "narrow": 500}[request.param]
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000", "--no-proxy-server"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, Service(need("chromedriver")))
    try:
        yield Page(browser, daemon)
    finally:
        browser.quit()


def share(text: str) -> float:
    return float(text.removesuffix(" %")) / 100


def test_it_draws_and_loads_nothing_from_elsewhere(page, daemon):
    rows = page.rows()
    assert len(rows) == 8
    for column in (1, 2, 3):
        assert sum(share(row[column]) for row in rows) == pytest.approx(1.0, abs=1e-3)
    # No parameter is set, so the probabilities are as before; 10,000 draws come near them.
    assert all(row[1] == row[2] for row in rows)
    assert all(abs(share(row[2]) - share(row[3])) < 0.03 for row in rows)
    sent = [json.loads(line["message"])["message"] for line in page.browser.get_log("performance")]
    urls = {event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"}
    assert urls
    assert all(url.startswith((f"http://{daemon.metrics_address}/", "chrome:", "data:")) for url in urls)
    assert page.errors() == []


def test_the_charts_move(page):
    page.until(lambda: page.browser.find_elements(By.CSS_SELECTOR, "#charts figure svg path[d]"))
    plots = page.browser.find_elements(By.CSS_SELECTOR, "#charts figure > svg")
    assert len(plots) == 5
    page.until(lambda: all(plot.get_attribute("aria-label") for plot in plots))
    assert page.errors() == []


def test_a_filter_cuts_where_the_page_says(page):
    Select(page.find("text")).select_by_visible_text("I am not a ro")
    page.find("p-top_k").send_keys("3")
    page.until(lambda: page.text("summary").startswith("3 of 465 ids"))
    assert [row[0][-1] for row in page.rows()[:3]] == ["o", "a", "l"]
    assert "cut: the 462 ids below are dropped" in page.text("rows")
    assert page.asked()["params"] == {"topK": 3}
    for language, part in (("python", "top_k=3,"), ("go", "samplerd.TopK(3),"), ("grpcurl", '"topK": 3')):
        Select(page.find("language")).select_by_value(language)
        assert part in page.text("code")
    page.browser.find_element(By.CSS_SELECTOR, "button[type=reset]").click()
    page.until(lambda: not page.text("summary").startswith("3 of 465"))


def test_an_error_stands_at_its_field(page):
    field = page.find("p-top_p")
    field.send_keys("2")
    page.until(lambda: field.get_attribute("aria-invalid") == "true")
    problem = field.find_element(By.XPATH, "ancestor::p//*[@role='alert']")
    assert problem.text == "2.0 is not in (0.0, 1.0]"
    field.send_keys(Keys.BACKSPACE, "0.5")
    page.until(lambda: field.get_attribute("aria-invalid") is None)
    page.find("values").send_keys(", text")
    page.until(lambda: page.find("values").get_attribute("aria-invalid") == "true")
    assert page.text("error") == "Not drawn: see values. What is below is the draw before."
    assert page.errors() == []


UNREADABLE = {
    "p-temperature": ("0,7", '"0,7" is not a number: write a point, not a comma'),
    "p-top_k": ("2.5", '"2.5" is not a whole number'),
    "p-min_tokens_to_keep": ("-1", "-1 is not in [0, 4294967295]"),
    "p-steps": ("top_k foo", '"foo" is none of temperature, top_n_sigma, top_k, top_p, min_p'),
    "p-logit_bias": ("3", '"3" is not an id, a colon and an amount, as 3:-1.5'),
    "p-allowed_tokens": ("1 x", '"x" is not a whole number'),
    "p-bad_words": ("1, 2; y", '"y" is not a whole number'),
    "p-token_bitmask": ("0f0", "these are not bytes of two hexadecimal digits each"),
    "seed": ("18446744073709551616", '"18446744073709551616" is not a whole number from 0 to 2^64 - 1'),
    "token": ("two words", "a token has letters, digits and signs of ASCII, and no spaces"),
}


def test_what_cannot_be_read_is_told_at_its_field(page):
    for own, (text, _) in UNREADABLE.items():
        page.type(own, text)
    page.until(lambda: len(page.problems()) == len(UNREADABLE))
    for own, problem in page.problems().items():
        assert problem.startswith(UNREADABLE[own][1])
    assert page.text("code").startswith("No request: ")
    for own in UNREADABLE:
        page.type(own, "")
    page.until(lambda: page.problems() == {})
    # What only the server knows stands at the field of the list, with the place in it.
    page.type("p-logit_bias", "0:1, 99: -inf")
    page.until(lambda: page.problems() == {"p-logit_bias": "item [1]: 99 is not in [0, 8)"})
    assert page.errors() == []


def test_the_program_that_it_offers_draws_the_same(page, daemon):
    for own, text in {
        "p-logit_bias": "0: -inf, 1:0.5",
        "p-token_bitmask": "7f000000",
        "p-steps": "top_k, temperature",
        "p-top_k": "4",
        "p-dry.multiplier": "0.5",
        "p-dry.breaker_sequences": "5,6;7",
        "p-history": "1 2 1 2",
    }.items():
        page.type(own, text)
    page.until(lambda: page.text("summary").startswith("4 of 8 ids"))
    Select(page.find("language")).select_by_value("python")
    program = page.text("code")
    assert f'SyncSamplerClient("{daemon.address}")' in program
    assert program.endswith("print(result.samples)")
    program = program.removesuffix("print(result.samples)") + "print(*np.bincount(result.samples[0], minlength=8))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=WAIT_S)
    drawn = {int(row[0]): share(row[3]) for row in page.rows()}
    assert [int(count) for count in done.stdout.split()] == [round(10_000 * drawn[own]) for own in range(8)]
    Select(page.find("language")).select_by_value("go")
    for part in (
        "package main",
        "BreakerSequences: []*pb.TokenSequence{{Ids: []int32{5, 6}}, ",
        "[]byte{127, 0, 0, 0}",
    ):
        assert part in page.text("code")


def test_it_can_be_used_by_keyboard_and_by_a_screen_reader(page):
    assert page.browser.execute_script(UNNAMED) == []
    page.find("token").send_keys(Keys.TAB)
    # The first group's summary, then the slider of the temperature.
    page.browser.switch_to.active_element.send_keys(Keys.TAB)
    slider = page.browser.switch_to.active_element
    assert slider.get_attribute("aria-label") == "temperature, by a slider"
    slider.send_keys(Keys.ARROW_LEFT)
    page.until(lambda: page.asked()["params"] == {"temperature": 0.99})


def test_a_dark_browser_gets_a_dark_page(page):
    assert page.browser.execute_script(LUMINANCE) > 0.9
    media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert page.browser.execute_script(LUMINANCE) < 0.2


@pytest.mark.parametrize("page", ["narrow"], indirect=True)
def test_a_narrow_page_needs_no_scrolling_sideways(page):
    width = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.browser.execute_script(width) == 0
    Select(page.find("text")).select_by_visible_text("I am not a ro")
    page.until(lambda: "of 465 ids" in page.text("summary"))
    assert (
        page.browser.execute_script(width.replace("document.documentElement", "document.querySelector('.scroll')")) == 0
    )


def test_what_xtc_drops_is_shown_although_it_is_the_likeliest(page):
    Select(page.find("text")).select_by_visible_text("I am not a ro")
    page.until(lambda: "of 465 ids" in page.text("summary"))
    likeliest = page.rows()[0]
    page.type("p-xtc_threshold", "0.1")
    page.type("p-xtc_probability", "1")
    page.until(lambda: page.rows()[0][0] != likeliest[0])
    dropped = [row for row in page.rows() if row[0] == likeliest[0]]
    assert dropped == [[likeliest[0], likeliest[1], "0 %", "0 %"]]
