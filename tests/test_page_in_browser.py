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
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from common.data import MNIST
from common.data.dataset import load_data
from common.evaluation.classifier import classifier_for
from common.gan.batches import generate, one_hot
from common.sampling.page import page_of
from common.sampling.samples import classes_of
from pages import GENERATORS, inputs_for

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER),
        reason="needs a browser: apt-get install chromium chromium-driver",
    ),
]

# In place of the browser's, random numbers (Park and Miller's) and a date that are the same each
# time.
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
  const image = await draw(noise, label);
  one.image = [...image];
  return image;
};
"""
PIXELS = """
const [canvas] = arguments;
const { width, height } = canvas;
const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
return [width, [...data].filter((_, i) => i % 4 === 0)];
"""
FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


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

    def draw(self, noise, labels=None):
        """Images of the page's generator, float64 of shape (count, size, size, 1)."""
        labels = None if labels is None else labels.tolist()
        images = np.array(self.driver.execute_async_script(DRAW, noise.tolist(), labels))
        size = round(images.shape[1] ** 0.5)
        return images.reshape(-1, size, size, 1)

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
        agent = driver.execute_script("return navigator.userAgent")
        for setting, values in [
            ("setDeviceMetricsOverride", size),
            ("setTouchEmulationEnabled", {"enabled": phone}),
            ("setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language}),
        ]:
            driver.execute_cdp_cmd(f"Emulation.{setting}", values)
        pages.append(Page(driver, file))
        return pages[-1]

    yield open_page
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    requested = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in requested if not url.startswith(("blob:", "data:"))} == {pages[-1].url}


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
    found = opened(generator).draw(noise, labels)
    np.testing.assert_allclose(found, expected, atol=1e-2, rtol=0)
    np.testing.assert_allclose(np.rint(255 * found), np.rint(255 * expected), atol=3, rtol=0)


def tiles_of(picture, widths):
    """The images of 28 x 28 pixels in a row of a saved picture, by the widths of what is in it."""
    lefts = np.cumsum([0, *widths[:-1]])[np.array(widths) == 1]
    columns = 6 + np.round(90 * lefts).astype(int)
    return np.array([picture[6:90:3, left : left + 84 : 3] for left in columns])


def test_typed_digits_are_read_as_these_digits(page, tmp_path):
    """By the project's classifier, in the saved picture; it reads 99% of such digits rightly."""
    classifier = classifier_for(load_data(MNIST), MNIST, tmp_path, may_train=False)
    asked, read = "", []
    for text in ["2026-11-27", "0123456789", "9876543210", "(020) 7946 018"]:
        page.paste(text)
        name, picture = page.saved()
        assert name == f"{text.strip('(').replace(') ', '-').replace(' ', '-')}.png"
        widths = [1 if character.isdigit() else 0.45 for character in text]
        assert picture.shape == (96, np.ceil(90 * sum(widths)) + 6)
        images = tiles_of(picture, widths)[..., np.newaxis].astype(np.float32) / 255
        read += classifier.predict(images)[1].tolist()
        asked += re.sub(r"\D", "", text)
    assert len(asked) == 38
    assert np.sum(np.array([*asked], int) != read) <= 2


def test_pictures_show_the_drawn_images(page):
    """On the board and in a file, each pixel as a block, black for 0 and white for 1."""
    image = page.drawn_by(lambda: page.paste("8"))[0]["image"]
    expected = np.rint(255 * np.array(image)).reshape(28, 28)
    assert (expected.min(), expected.max()) == (0, 255)
    _, picture = page.saved()
    assert picture.shape == (96, 96)
    np.testing.assert_array_equal(picture[6:90, 6:90], np.kron(expected, np.ones((3, 3))))
    assert picture.sum() == 9 * expected.sum()
    board = page.shown(page["picture"])
    scale = round((board.sum() / expected.sum()) ** 0.5)
    assert scale >= 10
    (top, left), (y, x) = (np.argwhere(picture).min(axis=0) for picture in (board, expected))
    shown = board[top - scale * y :, left - scale * x :][: 28 * scale, : 28 * scale]
    np.testing.assert_array_equal(shown, np.kron(expected, np.ones((scale, scale))))
    assert board.sum() == shown.sum()


def test_texts_are_read_as_by_the_programs(opened):
    """With 47 labels a number may be one of them or several; there, `--digit` decides."""
    page = opened(GENERATORS["64 pixels, 47 labels"]())
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
    for text, drawn, file, hint in [
        ("Tel. 030 / 12ab", "030 / 12", "030-12", only),
        ("3\U0001f600\u0664\u00b2", "3 2", "3-2", only),
        ("+49 (30) 1.5", "+49 (30) 1.5", "49-30-1-5", usual),
        ("2026\u201311\u201327", "2026\u201311\u201327", "2026-11-27", usual),
        (forty, forty, forty, usual),
        (f"{forty}-1", forty, forty, most.format(2)),
        (f"{forty}x" * 2, forty, forty, f"{only} {most.format(40)}"),
    ]:
        page.paste(text)
        assert page.told("hint").startswith(hint)
        assert page.told("status") == f"Drawn: {drawn}"
        assert page.saved()[0] == f"{file}.png"
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
        focused = page.driver.switch_to.active_element
        if size[0] == 390:
            assert focused.tag_name == "body"
            page["labels"].click()
        else:
            assert focused == page["labels"]
        page.driver.switch_to.active_element.send_keys("78")
        page.wait()
        assert page.told("status") == "Drawn: 78"
        page["labels"].click()  # who has typed wants to go on, not to begin again
        page["labels"].send_keys("9")
        page.wait()
        assert page.told("status") in ("Drawn: 789", "Drawn: 978", "Drawn: 798")


def test_classes_with_names_are_chosen(opened, generators):
    """At first there is each of them, with its name below; a chosen one is drawn 16 times."""
    names = [*FASHION[:9], "</script>"]
    page = opened(generators["included CGAN"], names=names)
    assert page.told("status") == f"Drawn: {', '.join(names)}"
    assert not page.driver.find_elements(By.ID, "labels")
    name, picture = page.saved()
    assert name == "T-shirt-top-Trouser-Pullover-Dress-Coat-Sandal-Shirt-Sneaker-Bag-script.png"
    assert picture.shape == (2 * (90 + 24) + 6, 5 * 90 + 6)
    captions = [picture[row : row + 24, 6:90].any() for row in (92, 206)]
    assert captions == [True, True]
    drawn = page.drawn_by(lambda: page["choice"].send_keys("Sn"))
    assert [one["label"] for one in drawn if one["label"] == 7] == [7] * 20  # four on the pad
    assert page.told("status") == "Drawn: Sneaker"
    assert page.driver.title == "Sneaker \u2013 A GAN draws what you choose"
    assert {("image", "Drawn: Sneaker"), ("combobox", "Class")} <= page.names()
    name, picture = page.saved()
    assert (name, picture.shape) == ("Sneaker.png", (366, 366))


def test_names_of_one_character_are_typed(opened, generators):
    page = opened(generators["included CGAN"], names=[*"ABCDEFGH1b"])
    assert page.told("status") == "Drawn: ABCDEFGH1b"
    drawn = page.drawn_by(lambda: page.paste("B\u00e4b-1a"))
    assert page.told("status") == "Drawn: B b-1A"
    assert [one["label"] for one in drawn[:4]] == [1, 9, 8, 0]
    assert page.told("hint").startswith("Only A B C D E F G H 1 b and the signs")


@pytest.mark.parametrize(
    ("name", "names"),
    [("included DCGAN", ()), ("included CGAN", ()), ("included CGAN", ["\u2460\u2461"] * 10)],
)
def test_it_speaks_chinese_where_the_browser_does(opened, generators, name, names):
    """All that one sees and that screen readers say; elsewhere, it is English."""
    for language, lang, foreign in [
        ("zh-TW", "zh-CN", "[A-Za-z]+"),
        ("de", "en", "[\u4e00-\u9fff]"),
    ]:
        page = opened(generators[name], names=names, language=language)
        if name == "included CGAN" and not names:
            page.paste("1" * 50 + "\u00e9")  # two complaints
        assert page.run("return document.documentElement.lang") == lang
        said = [page.driver.title, *(name for _, name in page.names())]
        said += [page["renew"].get_attribute("title"), page["x"].get_attribute("aria-valuetext")]
        assert len("".join(said)) > 100
        assert {*re.findall(foreign, " ".join(said))} <= {"GAN"}


@pytest.mark.parametrize("size", [(1280, 800), (195, 422)])
def test_a_picture_is_the_same_in_each_window(opened, generators, size):
    """A date has one row, long numbers several; rows end at spaces, if there are any."""
    page = opened(generators["included CGAN"], *size)
    for text, rows, width in [
        ("2026-11-27", 1, 8.9),
        ("2026-11-27 10:45", 2, 8.9),
        ("1234567890" * 4, 4, 10),
    ]:
        page.paste(text)
        _, picture = page.saved()
        assert picture.shape == (90 * rows + 6, round(90 * width) + 6)
        shown, (height, width) = page["picture"].rect, picture.shape
        assert shown["height"] == pytest.approx(shown["width"] * height / width, abs=2)


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


def test_each_corner_of_the_pad_is_what_it_shows(page):
    page.paste("8")
    pad = page["pad"].rect
    for i, corner in enumerate(page.driver.find_elements(By.CLASS_NAME, "corner")):
        click = ActionChains(page.driver).move_to_element(corner).click()
        drawn = page.drawn_by(click.perform)
        # the middle of an image falls between two pixels
        shown = page.shown(corner).ravel()
        np.testing.assert_allclose(shown, 255 * np.array(drawn[-1]["image"]), atol=32)
        dot = page["dot"].rect
        assert (dot["x"] > pad["x"] + pad["width"] / 2) == i % 2
        assert (dot["y"] > pad["y"] + pad["height"] / 2) == i // 2


def test_all_of_it_can_be_done_with_keys(page):

    def press(*pressed):
        drawn = page.drawn_by(lambda: page.driver.switch_to.active_element.send_keys(*pressed))
        return [one["image"] for one in drawn]

    def tab():
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        return page.driver.switch_to.active_element.get_attribute("id")

    assert len(press("27")) >= 2  # in place of the date
    assert page["labels"].get_attribute("value") == "27"
    images = []
    for name, key in (("x", Keys.ARROW_RIGHT), ("y", Keys.ARROW_DOWN), ("renew", Keys.ENTER)):
        assert tab() == name
        images.append(press(key)[0])
    assert [page[name].get_attribute("value") for name in ("x", "y")] == ["51", "49"]
    assert len({tuple(image) for image in images}) == 3
    assert tab() == "save"


def test_screen_readers_find_names_for_everything(page):
    page.paste("2026")
    assert {
        ("heading", "A GAN draws what you type"),
        ("textbox", "Digits"),
        ("image", "Drawn: 2026"),
        ("group", "Move the dot to mix four drawings."),
        ("slider", "Between left and right"),
        ("slider", "Between bottom and top"),
        ("button", "Draw anew"),
        ("button", "Save picture"),
    } <= page.names()
    assert page["status"].text == "Drawn: 2026"
    assert page["x"].get_attribute("aria-valuetext") == "50 percent right"
    assert page["y"].get_attribute("aria-valuetext") == "50 percent top"


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
        assert min(box["x"], box["y"]) >= 0
        assert box["x"] + box["width"] <= width, part
        assert box["y"] + box["height"] <= height, part
        assert min(box["width"], box["height"]) >= 16
    board = page.shown(page["picture"])
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
