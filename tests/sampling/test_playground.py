"""The page at /, in a real browser."""

import json
import shutil
from collections.abc import Callable, Iterator

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from demiurgic_jax.data.completer import CompletionRequest, Message
from demiurgic_jax.sampling.engine import Engine
from demiurgic_jax.sampling.server import serving
from demiurgic_jax.sampling.server_config import ServerConfig

PATIENCE = 120
CODE = "def add(a, b):\n    return a - b"


@pytest.fixture(scope="module")
def root(engine: Engine) -> Iterator[str]:
    with serving(engine, "tiny") as url:
        yield url.removesuffix("/v1")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if chromium is None or driver is None:
        pytest.skip("no Chromium here (Debian: chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


class Page:
    """The page as its reader meets it."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser = browser
        browser.get(address + "/")

    def at(self, element: str) -> WebElement:
        return self.browser.find_element(By.ID, element)

    def wait(self, until: Callable[[], object]) -> None:
        WebDriverWait(self.browser, PATIENCE, 0.05).until(lambda _: until())

    def keys(self, *keys: str) -> None:
        chain = ActionChains(self.browser)
        *held, last = keys
        for key in held:
            chain.key_down(key)
        chain.send_keys(last)
        for key in held:
            chain.key_up(key)
        chain.perform()

    def write(self, text: str, cursor: int | None = None) -> None:
        """Into the text, and the cursor where it is said."""
        self.browser.execute_script(
            "const area = document.getElementById('text'); area.focus(); area.value = arguments[0];"
            "area.setSelectionRange(arguments[1], arguments[1]);",
            text,
            len(text) if cursor is None else cursor,
        )

    def fill(self, element: str, value: str) -> None:
        self.at(element).clear()
        self.at(element).send_keys(value)

    def run(self) -> str:
        """Ctrl+Enter, and the answer once it has ended."""
        self.at("text").click() if not self.browser.execute_script("return document.activeElement.id == 'text'") else 0
        self.keys(Keys.CONTROL, Keys.ENTER)
        self.wait(lambda: self.at("run").is_enabled())
        return self.answer

    @property
    def answer(self) -> str:
        return self.browser.execute_script("return document.getElementById('answer').textContent")

    @property
    def status(self) -> str:
        return self.at("status").text


@pytest.fixture
def page(browser: webdriver.Chrome, root: str) -> Iterator[Page]:
    page = Page(browser, root)
    page.wait(lambda: page.at("model").text == "tiny")
    yield page
    complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert complaints == []


def engine_text(engine: Engine, **options) -> str:
    return "".join(piece.text for piece in engine.submit(CompletionRequest(**options)))


def test_the_page_fetches_nothing_and_its_policy_allows_nothing_else(root: str):
    response = httpx.get(root + "/")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.text.count("<script>") == response.text.count("<style>") == 1
    for outside in ("http://", "https://", " src=", "@import", "url("):
        assert outside not in response.text


def test_text_is_continued_from_the_keyboard_alone(page: Page, engine: Engine):
    page.keys(Keys.ALT, "1")
    page.fill("max_tokens", "12")
    page.write("for number")
    text = page.run()
    assert text == engine_text(engine, prompt="for number", max_tokens=12)
    assert page.status.startswith("12 tokens")
    assert "token limit" in page.status
    page.keys(Keys.ALT, Keys.ENTER)
    assert page.at("text").get_property("value") == "for number" + text


def test_a_gap_is_filled_at_the_cursor(page: Page, engine: Engine):
    page.keys(Keys.ALT, "2")
    page.fill("max_tokens", "8")
    page.write("def add(a, b):\n    return a", cursor=len("def add("))
    text = page.run()
    assert text == engine_text(engine, prompt="def add(", suffix="a, b):\n    return a", max_tokens=8)
    page.at("insert").click()
    assert page.at("text").get_property("value") == f"def add({text}a, b):\n    return a"


@pytest.mark.parametrize(
    ("key", "question"),
    [
        # As students learn them: demiurgic_jax/cli/skills.py and distillation's tasks have the same words.
        ("3", f"Write a Python function. Its docstring is: {CODE}\nAnswer with the code only."),
        ("4", f"Explain in a few sentences what this Python code does.\n\n```python\n{CODE}\n```"),
        ("5", f"This Python function has a bug. Answer with the fixed code only.\n\n```python\n{CODE}\n```"),
        (
            "6",
            "Rewrite this Python function so that it is simpler and does the same. Answer with the code only."
            f"\n\n```python\n{CODE}\n```",
        ),
    ],
)
def test_a_skill_is_asked_for_in_the_words_that_students_know(page: Page, engine: Engine, key: str, question: str):
    page.fill("max_tokens", "10")
    page.keys(Keys.ALT, key)
    page.write(CODE)
    assert page.run() == engine_text(engine, messages=(Message("user", question),), max_tokens=10)


def test_a_token_shows_its_rivals_under_the_pointer(page: Page, root: str):
    page.fill("max_tokens", "6")
    page.write("for")
    page.run()
    asked = {"prompt": "for", "max_tokens": 6, "temperature": 0, "logprobs": 5}
    logprobs = httpx.post(f"{root}/v1/completions", json=asked, timeout=PATIENCE).json()["choices"][0]["logprobs"]
    shown = page.browser.find_elements(By.CSS_SELECTOR, ".token")
    visible = next(token for token in shown if token.text.strip())
    index = int(visible.get_attribute("data-index"))
    ActionChains(page.browser).move_to_element(visible).perform()
    tip = page.browser.execute_script("return document.getElementById('tip').textContent")
    assert page.at("tip").is_displayed()
    if len(shown) == len(logprobs["tokens"]):
        assert tip.count("%") == 5
        assert "▸" in tip
        assert json.dumps(logprobs["tokens"][index], ensure_ascii=False) in tip


def test_escape_stops_and_frees_the_slot(page: Page, engine: Engine):
    page.fill("max_tokens", "1900")
    page.write("for")
    page.keys(Keys.CONTROL, Keys.ENTER)
    page.wait(lambda: page.answer)
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.status.startswith("stopped after"))
    page.wait(lambda: engine.active == 0)
    assert page.at("run").is_enabled()


def test_light_and_dark_change_places_and_stay(page: Page, root: str):
    def colours() -> str:
        return page.browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    before = colours()
    page.keys(Keys.ALT, "t")
    after = colours()
    assert before != after
    page.browser.refresh()
    assert colours() == after
    page.at("theme").click()
    assert colours() == before


def test_a_refusal_is_shown_and_a_key_mends_it(browser: webdriver.Chrome, engine: Engine, monkeypatch):
    monkeypatch.setenv("KEYS_OF_THE_TEST", "the-key")
    with serving(engine, "tiny", config=ServerConfig(api_keys="KEYS_OF_THE_TEST")) as url:
        page = Page(browser, url.removesuffix("/v1"))
        page.wait(lambda: "wants an API key" in page.at("model").text)
        page.write("for")
        page.run()
        assert "wants an API key" in page.status
        page.fill("key", "the-key" + Keys.TAB)
        page.wait(lambda: page.at("model").text == "tiny")
        page.fill("max_tokens", "4")
        page.write("for")
        assert page.run() == engine_text(engine, prompt="for", max_tokens=4)
        browser.get_log("browser")  # of the refusals, which the browser notes too
