"""The page, in a real browser."""

import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.deployments.pictures import data_uri, png
from tests.waiting import until

pytestmark = pytest.mark.browser

FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
MORE_FLAGS = "--disable-component-update --disable-sync"
FIRST_PIXEL = """
    const context = document.createElement("canvas").getContext("2d");
    context.drawImage(arguments[0], 0, 0);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)"""
HOSTILE = "<img src=x onerror=\"document.title='hacked'\"><b>Hostilia</b>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator:
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium and driver, "apt-get install chromium chromium-driver (cluster/install --tests does)"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS.split(), *MORE_FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    running.implicitly_wait(20)
    yield running
    running.quit()


@pytest.fixture
def page(browser, http):
    document = {
        "id": "hostile",
        "title": HOSTILE,
        "text": f"Hostilia: {HOSTILE}",
        "images": [data_uri(png((9, 9, 99)))],
    }
    http.post("/v1/documents", json={"documents": [document]}).raise_for_status()
    browser.get("about:blank")  # ends what the page of the last test was still loading
    browser.get_log("browser")
    browser.get(str(http.base_url))
    yield browser
    severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    http.delete("/v1/documents/hostile")
    assert severe == []


def wait_for(browser, css: str):
    from selenium.webdriver.common.by import By

    return browser.find_element(By.CSS_SELECTOR, css)


def test_a_question_shows_its_evidence_as_text_and_never_as_markup(page):
    page.execute_script("document.getElementById('text').value = 'Hostilia'")
    wait_for(page, "#text").send_keys("\n")
    card = wait_for(page, ".passage")
    assert HOSTILE in card.text
    assert page.title != "hacked"
    picture = wait_for(page, ".passage img[src^='blob:']")
    assert page.execute_script("return arguments[0].naturalWidth", picture) == 24
    assert "total" in wait_for(page, "#timings").text


def test_a_picture_is_asked_with(page, tmp_path):
    (tmp_path / "flag.png").write_bytes(png((9, 9, 99)))
    page.execute_script("document.getElementById('file').classList.remove('hidden')")
    wait_for(page, "#file").send_keys(str(tmp_path / "flag.png"))
    assert wait_for(page, "#thumbnail[src^='blob:']").is_displayed()
    wait_for(page, "#send").click()
    assert "image → image #1" in wait_for(page, ".passage .found").text


def test_an_error_is_shown_in_words(page):
    script = "document.getElementById('text').removeAttribute('maxlength'); document.getElementById('text').value = "
    page.execute_script(script + "'x'.repeat(9000)")
    wait_for(page, "#send").click()
    wait_for(page, "#error:not([hidden])")
    assert "8,000" in wait_for(page, "#error").text
    page.get_log("browser")  # the browser itself logs every 413 as an error


def error_shown(page) -> str:
    return wait_for(page, "#error:not([hidden])").text


def test_asking_nothing_says_what_to_enter(page):
    wait_for(page, "#send").click()
    assert error_shown(page).startswith("Enter a question, or add a picture")


def test_a_refused_picture_is_taken_away(page, tmp_path):
    files = {"flag.png": png((9, 9, 99)), "notes.pdf": b"no picture", "broken.png": png()[:40]}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    page.execute_script("document.getElementById('file').classList.remove('hidden')")
    for name, words in (("notes.pdf", "notes.pdf is no picture"), ("broken.png", "cut short")):
        wait_for(page, "#file").send_keys(str(tmp_path / "flag.png"))
        wait_for(page, "#preview:not([hidden])")
        wait_for(page, "#file").send_keys(str(tmp_path / name))
        if name == "broken.png":
            wait_for(page, "#send").click()
        assert words in error_shown(page)
        wait_for(page, "#preview[hidden]")
    page.get_log("browser")  # the browser itself logs every 422 as an error


def test_an_example_shows_the_picture_that_it_names(page, http):
    right, wrong = png((10, 20, 30)), png((90, 20, 10))
    documents = [
        {"id": "more", "title": "balloon balloon", "text": "balloon " * 9, "images": [data_uri(wrong)]},
        {"id": "one", "title": "balloon", "text": "It flies.", "images": [data_uri(right)]},
    ]
    http.post("/v1/documents", json={"documents": documents}).raise_for_status()
    [example] = [
        button for button in page.find_elements("css selector", "#examples button") if "balloon" in button.text
    ]
    example.click()
    thumbnail = wait_for(page, "#thumbnail[src^='blob:']")
    until(lambda: page.execute_script("return arguments[0].naturalWidth", thumbnail))
    assert page.execute_script(FIRST_PIXEL, thumbnail) == [10, 20, 30]
    for name in ("one", "more"):
        http.delete(f"/v1/documents/{name}")
    example.click()
    assert error_shown(page) == "This knowledge base has no picture of balloon."
    page.get_log("browser")  # that the picture is gone is said there, too


def test_every_control_has_a_name(page):
    nameless = page.execute_script(
        "return [...document.querySelectorAll('button, textarea, select, a, input')]"
        ".filter((e) => e.checkVisibility()).filter((e) => !(e.textContent || e.ariaLabel || e.labels?.length)).length"
    )
    assert nameless == 0
