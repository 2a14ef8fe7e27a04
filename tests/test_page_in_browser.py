"""The page of a generator in a real browser: headless Chromium, from file://, as a reader opens it.

Debian's packages chromium and chromium-driver are needed; without them these tests are skipped.
"""

import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import cgan_mnist
from common.data.dataset import load_dataset
from common.evaluation.classifier import classifier_for
from common.gan.batches import generate, one_hot
from common.sampling.page import page_of
from common.sampling.samples import classes_of
from pages import GENERATORS, chapters, inputs_for

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

MISSING = "needs a browser: apt-get install chromium chromium-driver"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]

# Random numbers that are the same each time (Park and Miller's), and today's date.
SEEDED = """
let state = 1;
Math.random = () => (state = (state * 16807) % (2 ** 31 - 1)) / (2 ** 31 - 1);
Date = class { getFullYear() { return 2026; } getMonth() { return 0; } getDate() { return 5; } };
"""
DRAW = """
const [noise, labels, done] = arguments;
Promise.all(noise.map((z, i) => gan.draw(Float32Array.from(z), labels?.[i])))
  .then((images) => done(images.map((image) => [...image])));
"""
# Keeps the noise, the label and the image of each image that the page draws, in this order.
RECORD = """
const draw = gan.draw;
gan.draw = async (noise, label) => {
  const one = { noise: [...noise], label };
  drawn.push(one);
  return (one.image = [...await draw(noise, label)]);
};
"""
PIXELS = """
const [canvas] = arguments;
const { width, height } = canvas;
const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
return [width, [...data].filter((_, i) => i % 4 === 0)];
"""


class Page:
    """A page that is open in a browser.

    Attributes:
        downloads: The folder for saved pictures.
    """

    def __init__(self, driver, file):
        self.driver = driver
        self.url = file.as_uri()
        self.downloads = file.parent
        self.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        for log in ("browser", "performance"):
            driver.get_log(log)  # those of the page before
        driver.get(self.url)
        self.wait()
        self.run(f"window.drawn = []; {RECORD}")

    def __getitem__(self, name):
        return self.driver.find_element(By.ID, name)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self):
        """Until the page has drawn what it is to draw."""
        WebDriverWait(self.driver, 60, 0.02).until(
            lambda _: self["board"].get_attribute("aria-busy") == "false"
        )

    def paste(self, text):
        """In place of what is in the field."""
        self.run("labels.select()")
        self.cdp("Input.insertText", text=text) if text else self["labels"].send_keys(Keys.DELETE)
        self.wait()

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def told(self, name):
        """A text, as screen readers get it."""
        return self[name].get_attribute("textContent")

    def names(self):
        """The roles and names of all that screen readers find."""
        return {
            (node["role"]["value"], node["name"]["value"])
            for node in self.cdp("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"] and "name" in node
        }

    def drawn_by(self, action):
        """What the page draws in an action: the noise, the label and the image of each."""
        self.run("drawn.length = 0")
        action()
        self.wait()
        return self.run("return drawn")

    def shown(self, canvas):
        """The picture on a canvas: integers of shape (height, width)."""
        width, pixels = self.run(PIXELS, canvas)
        return np.array(pixels).reshape(-1, width)

    def saved(self):
        """The saved picture: its file's name, and uint8 of shape (height, width)."""
        self["save"].click()
        WebDriverWait(self.driver, 30, 0.02).until(lambda _: [*self.downloads.glob("*.png")])
        (file,) = self.downloads.glob("*.png")
        assert self.told("status") == f"Saved as {file.name}"
        picture = np.array(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"))
        file.unlink()
        assert (picture == picture[:, :, :1]).all()
        return file.name, picture[:, :, 0]


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": SEEDED})
    yield driver
    driver.quit()


@pytest.fixture
def opened(driver, tmp_path):
    """Opens the page of a generator; in the end, nothing was requested, and there was no error."""
    pages = []

    def open_page(generator, width=1280, height=800, names=(), language="en"):
        file = tmp_path / "page.html"
        file.write_bytes(page_of(generator, names))
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        speaks = {"userAgent": "Chromium", "acceptLanguage": language}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        driver.execute_cdp_cmd("Emulation.setUserAgentOverride", speaks)
        pages.append(Page(driver, file))
        return pages[-1]

    yield open_page
    assert driver.get_log("browser") == []
    log = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [entry["params"] for entry in log if entry["method"] == "Network.requestWillBeSent"]
    urls = {one["request"]["url"] for one in sent}
    assert {url for url in urls if not url.startswith(("blob:", "data:"))} == {pages[-1].url}


@pytest.fixture(scope="module")
def generators():
    """Those that more than one test opens."""
    return {name: GENERATORS[name]() for name in ("included DCGAN", "included CGAN")}


@pytest.fixture
def page(opened, generators):
    """That of the included CGAN, which draws what one types."""
    return opened(generators["included CGAN"])


@pytest.mark.parametrize("name", GENERATORS)
def test_it_draws_what_keras_draws(opened, generators, name):
    generator = generators.get(name) or GENERATORS[name]()
    noise, labels = inputs_for(generator, 20)
    inputs = [noise] if labels is None else [noise, one_hot(labels, generator.inputs[1].shape[1])]
    expected = generate(generator, inputs)
    assert expected.std(axis=0).mean() > 0.1
    labels = labels if labels is None else labels.tolist()
    script = opened(generator).driver.execute_async_script
    found = np.reshape(script(DRAW, noise.tolist(), labels), expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-2, rtol=0)
    np.testing.assert_allclose(np.rint(255 * found), np.rint(255 * expected), atol=3, rtol=0)


def test_typed_digits_are_read_as_these_digits(page, tmp_path):
    """By the project's classifier, in the saved picture; it reads 99% of such digits rightly."""
    classifier = classifier_for(load_dataset(), tmp_path, may_train=False)
    asked, read = [], []
    for text in ["2026-11-27", "0123456789", "9876543210", "(020) 7946 018"]:
        page.paste(text)
        _, picture = page.saved()
        left = 6.0
        for character in text:
            if character.isdigit():
                tile = picture[6:90:3, round(left) : round(left) + 84 : 3] / np.float32(255)
                read.append(classifier.predict(tile[np.newaxis, ..., np.newaxis])[1].item())
                asked.append(int(character))
            left += 90 if character.isdigit() else 0.45 * 90
    assert len(asked) == 38
    assert np.sum(np.array(asked) != read) <= 2


def test_texts_are_read_as_by_the_programs(opened):
    """With 47 labels a number may be one of them or several; there, `--digit` decides."""
    page = opened(chapters(cgan_mnist, 8, 47))
    assert page.told("status").startswith("Drawn: 0 1 2 3")
    words = ["12", "7", "046", "46", "47", "2026"]
    page.paste("")
    drawn = page.drawn_by(lambda: page.paste(" ".join(words)))
    expected = classes_of(words, 47).tolist()
    assert [one["label"] for one in drawn[: len(expected)]] == expected


def test_of_a_text_what_can_be_drawn_is(page):
    """In the middle of the picture; for anything else there is a space, or a word."""
    only, usual = "Only 0 to 9 and the signs - . , : / + ( ) are drawn.", "A date, for example"
    most = "At most 40 digits and signs are drawn: the last {} are not."
    forty = "1234567890" * 4
    for text, drawn, hint, rows, width in [
        ("Tel. 030 / 12ab", "030 / 12", only, 1, 6.35),
        ("3\U0001f600\u0664\u00b2", "3 2", only, 1, 2.45),
        ("+49 (30) 1.5", "+49 (30) 1.5", usual, 1, 8.7),
        ("2026\u201311\u201327", "2026\u201311\u201327", usual, 1, 8.9),
        ("2026-11-27 10:45", "2026-11-27 10:45", usual, 2, 8.9),  # rows end at spaces
        (forty, forty, usual, 4, 10),
        (f"{forty}-1", forty, most.format(2), 4, 10),
        (f"{forty}x" * 2, forty, f"{only} {most.format(40)}", 4, 10),
    ]:
        page.paste(text)
        assert page.told("hint").startswith(hint)
        assert page.told("status") == f"Drawn: {drawn}"
        name, picture = page.saved()
        assert name == f"{'-'.join(re.findall('[0-9]+', drawn))}.png"
        assert picture.shape == (90 * rows + 6, pytest.approx(90 * width + 6, abs=1.5))
        assert page["labels"].get_attribute("value") == text
    for text, hint in [("abc", only), ("", usual), ("-----", usual)]:
        page.paste(text)
        assert page.told("hint").startswith(hint)
        assert page["status"].text == "Type digits, 0 to 9."
        # nothing is left of the digits before
        for part in ("picture", "pad", "walk", "renew", "save"):
            assert not page[part].is_displayed()
    page.paste("8")
    assert page["pad"].is_displayed()


def test_it_opens_with_todays_date_which_typing_replaces(opened, generators):
    """On a phone no keyboard opens over it; there, a tap selects it."""
    for size in [(1280, 800), (390, 844)]:
        page = opened(generators["included CGAN"], *size)
        assert page.told("status") == "Drawn: 2026-01-05"
        assert (page.driver.switch_to.active_element == page["labels"]) == (size[0] == 1280)
        if size[0] == 390:
            page["labels"].click()
        for keys, text in [("78", "78"), ("9", "789")]:
            page.driver.switch_to.active_element.send_keys(keys)
            page.wait()
            assert page.told("status") == f"Drawn: {text}"
            page["labels"].click()  # who has typed goes on, and does not begin again


def test_classes_with_names_are_chosen(opened, generators):
    """At first there is each of them, with its name below; a chosen one is drawn 16 times."""
    names = ["T-shirt/top", *["Dress"] * 6, "Sneaker", "Bag", "</script>"]
    page = opened(generators["included CGAN"], names=names)
    assert page.told("status") == f"Drawn: {', '.join(names)}"
    assert not page.driver.find_elements(By.ID, "labels")
    name, picture = page.saved()
    assert name == f"T-shirt-top-{'Dress-' * 6}Sneaker-Bag-script.png"
    assert picture.shape == (2 * (90 + 24) + 6, 5 * 90 + 6)
    assert all(picture[row : row + 24, 6:90].any() for row in (92, 206))
    drawn = page.drawn_by(lambda: page["choice"].send_keys("Sn"))
    assert {one["label"] for one in drawn} == {7}
    assert page.told("status") == "Drawn: Sneaker"
    assert page.driver.title == "Sneaker \u2013 A GAN draws what you choose"
    assert {("image", "Drawn: Sneaker"), ("combobox", "Class")} <= page.names()
    name, picture = page.saved()
    assert (name, picture.shape) == ("Sneaker.png", (366, 366))
    # names of one character are typed
    page = opened(generators["included CGAN"], names=[*"ABCDEFGH1b"])
    assert page.told("status") == "Drawn: ABCDEFGH1b"
    drawn = page.drawn_by(lambda: page.paste("B\u00e4b-1a"))
    assert page.told("status") == "Drawn: B b-1A"
    assert [one["label"] for one in drawn[:4]] == [1, 9, 8, 0]


@pytest.mark.parametrize(
    ("name", "names"),
    [("included DCGAN", ()), ("included CGAN", ()), ("included CGAN", ["\u2460\u2461"] * 10)],
)
def test_it_speaks_chinese_where_the_browser_does(opened, generators, name, names):
    """All that one sees and that screen readers say; elsewhere, it is English."""
    english, chinese = "[A-Za-z]+", "[\u4e00-\u9fff]"
    for language, lang, foreign in [("zh-TW", "zh-CN", english), ("de", "en", chinese)]:
        page = opened(generators[name], names=names, language=language)
        if name == "included CGAN" and not names:
            page.paste("1" * 50 + "\u00e9")  # two complaints
        assert page.run("return document.documentElement.lang") == lang
        said = [page.driver.title, *(name for _, name in page.names())]
        said += [page["renew"].get_attribute("title"), page["x"].get_attribute("aria-valuetext")]
        assert len("".join(said)) > 100
        assert {*re.findall(foreign, " ".join(said))} <= {"GAN"}


def test_a_walk_with_a_finger_stays_where_the_generator_was_trained(opened, generators):
    """Noise is uniform on [-1, 1] all over the pad, and the pictures change with each move."""
    page = opened(generators["included DCGAN"], 390, 844)
    box = page["area"].rect
    centre = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}

    def touch(kind, *points):
        page.cdp("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    def drag(x, y):
        """To a place that is (-1, -1) at the upper left and (1, 1) at the lower right."""
        place = {name: centre[name] + way * box["width"] / 2 for name, way in (("x", x), ("y", y))}
        touch("touchMove", place)
        # browsers deliver moves once per frame
        goal = min(max(50 * (1 + x), 0), 100)
        WebDriverWait(page.driver, 30, 0.02).until(
            lambda _: abs(float(page["x"].get_attribute("value")) - goal) < 2
        )

    page.drawn_by(lambda: touch("touchStart", centre))
    walk = []
    # the finger leaves the pad, which goes on following it
    for x, y in [(-1.1, -1.1), (1.1, -1.1), (-1.1, 1.1), (1.1, 1.1), (0, 0), (-0.4, 0.6)]:
        drawn = page.drawn_by(lambda x=x, y=y: drag(x, y))
        noise = np.array([one["noise"] for one in drawn[-16:]])
        # of 1600 numbers the mean square is 1/3, with a standard deviation of 2.2%
        assert np.mean(noise**2) == pytest.approx(1 / 3, rel=0.1)
        assert abs(np.mean(noise)) < 0.06
        assert np.abs(noise).max() <= 1
        walk.append(noise.ravel())
    touch("touchEnd")
    related = np.corrcoef(walk[:5])
    assert np.abs(related[:4, :4] - np.eye(4)).max() < 0.15  # four independent vectors
    assert related[4, :4].min() > 0.4  # the middle has a part of each
    renewed = page.drawn_by(page["renew"].click)
    noise = np.array([one["noise"] for one in renewed[:16]])
    assert abs(np.corrcoef(noise.ravel(), walk[5])[0, 1]) < 0.15


def test_all_of_it_can_be_done_with_keys_and_a_screen_reader(page):
    images = []
    for name, kind, said, key in [
        ("labels", "textbox", "Digits", "78"),  # in place of the date
        ("x", "slider", "Between left and right", Keys.ARROW_RIGHT),
        ("y", "slider", "Between bottom and top", Keys.ARROW_DOWN),
        ("renew", "button", "Draw anew", Keys.ENTER),
    ]:
        focused = page.driver.switch_to.active_element
        assert focused == page[name]
        assert (focused.aria_role, focused.accessible_name) == (kind, said)
        drawn = page.drawn_by(lambda key=key, focused=focused: focused.send_keys(key))
        assert len(drawn) >= 2
        images.append(tuple(drawn[0]["image"]))
        focused.send_keys(Keys.TAB)
    assert len({*images}) == 4
    assert page["x"].get_attribute("aria-valuetext") == "51 percent right"
    assert page["y"].get_attribute("aria-valuetext") == "49 percent top"
    assert {
        ("heading", "A GAN draws what you type"),
        ("image", "Drawn: 78"),
        ("group", "Move the dot to mix four drawings."),
        ("button", "Save picture"),
    } <= page.names()


@pytest.mark.parametrize("name", ["included DCGAN", "included CGAN"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844), (320, 568), (844, 390), (195, 422)])
def test_it_is_one_screen(opened, generators, name, size):
    """The last one is a window that is enlarged: there it scrolls, down alone."""
    page = opened(generators[name], *size)
    root = "document.documentElement"
    width, height = page.run(f"return [{root}.scrollWidth, {root}.scrollHeight]")
    assert width == page.run(f"return {root}.clientWidth")
    assert height == size[1] or size == (195, 422)
    for part in ("title", "board", "picture", "pad", "renew", "save"):
        box = page[part].rect
        assert min(box["x"], box["y"], box["width"] - 16, box["height"] - 16) >= 0, part
        assert max(box["x"] + box["width"] - width, box["y"] + box["height"] - height) <= 0, part
    board = page.shown(page["picture"])
    shown, (height, width) = page["picture"].rect, board.shape
    assert shown["height"] == pytest.approx(shown["width"] * height / width, abs=2)
    assert board[1:-1, 1:-1].any()
    assert not any(edge.any() for edge in (board[0], board[-1], board[:, 0], board[:, -1]))


def test_a_browser_that_cannot_draw_says_so(driver, generators, tmp_path):
    """One without WebAssembly's vectors: here, of a module that cannot be compiled."""
    page = page_of(generators["included DCGAN"])
    start = page.index(b"AGFzbQE")  # "\0asm", version 1
    (tmp_path / "page.html").write_bytes(page[:start] + b"AGFzbQI" + page[start + 7 :])
    driver.get((tmp_path / "page.html").as_uri())
    WebDriverWait(driver, 30).until(lambda _: driver.find_element(By.ID, "failure").text)
    told = driver.find_element(By.ID, "failure").text
    assert re.match(r"This browser cannot run the generator \(.*CompileError: ", told)
    assert not driver.find_element(By.ID, "save").is_displayed()
