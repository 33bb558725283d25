"""The page in a real browser: every key and button, the numbers, nothing asked of the network."""

import json
import re
import shutil

import numpy as np
import pytest

from tests.drawing.conftest import chain
from tinygrad_np import Tensor, draw

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs a Chromium and its chromedriver on PATH"
)
DESKTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in [
        "headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "force-prefers-reduced-motion",
        f"user-data-dir={tmp_path_factory.mktemp('profile')}",
    ]:  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(DRIVER)  # named, so that none is looked for or downloaded
    driver = webdriver.Chrome(options=options, service=service)
    driver.get("about:blank")  # the browser's own first page loads things
    yield driver
    driver.quit()


class Open:
    """A page in the browser, and what the tests do with it."""

    def __init__(self, browser, drawing, path, size=DESKTOP, dark=False):
        self.browser, self.story, self.graph = browser, drawing.story, drawing.graph
        browser.get_log("browser"), browser.get_log("performance")
        width, height = size
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.url = drawing.save(path / "graph.html").as_uri()
        browser.get(self.url)

    def __call__(self, id):
        return self.browser.find_element(By.ID, id)

    def js(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def box(self, name):
        (id,) = [id for id, value in self.story.values.items() if value.name == name]
        (element,) = self.all(f'[data-id="{id}"]')
        return element

    def press(self, *keys):
        ActionChains(self.browser).send_keys(*keys).perform()

    def point_at(self, element):
        ActionChains(self.browser).move_to_element(element).perform()

    def shifted(self, key):
        ActionChains(self.browser).key_down(Keys.SHIFT).send_keys(key).key_up(Keys.SHIFT).perform()

    def go(self, step):
        self.js(
            "const s = document.getElementById('slider'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input'))", step,
        )  # fmt: skip

    @property
    def step(self):
        return int(self.js("return document.body.dataset.step"))

    @property
    def view(self):
        """The left, top, width and height of what is seen of the picture."""
        return [float(n) for n in self("picture").get_dom_attribute("viewBox").split()]

    def shown(self, box):
        """The lines of a box that are visible."""
        return self.js(
            "return [...arguments[0].querySelectorAll('text')]"
            ".filter(t => getComputedStyle(t).visibility === 'visible').map(t => t.textContent)",
            box,
        )

    def assert_quiet(self):
        """No message on the console, and no request but for the file."""
        assert [entry["message"] for entry in self.browser.get_log("browser")] == []
        for entry in self.browser.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                assert event["params"]["request"]["url"] == self.url
        assert self.js("return performance.getEntriesByType('resource').length") == 0


@pytest.fixture
def opened(browser, tmp_path):
    return lambda drawing, **options: Open(browser, drawing, tmp_path, **options)


def reused():
    """``y = x·x·b + 4x``: the gradient of ``x`` has the parts 4, -6 and -6."""
    x = Tensor(2.0, requires_grad=True, name="x")
    b = Tensor(-3.0, requires_grad=True, name="b")
    y = x * x * b + x * 4.0
    return draw(y, names={"y": y})


# --------------------------------------------------------------------------------------------------
# Steps
# --------------------------------------------------------------------------------------------------


def test_the_arrow_keys_walk_through_every_operation_and_every_vjp(opened, perceptron):
    page = opened(draw(perceptron["loss"], names=perceptron))
    story, values = page.story, page.story.values
    seen = 0
    for at, step in enumerate(story.steps, 1):
        assert page.step == at
        back = step.phase == "backward"
        assert page("phase").text == ("Backward" if back else "Forward")
        formula = page("step").find_element(By.CLASS_NAME, "formula").text
        made = values[step.arrivals[0].to if back else step.place].name
        assert formula == f"{'d' * back}{made} = {step.formula}"
        cards = [card.text.split("\n") for card in page.all("#step .card")]
        expected = [values[id].summary for id in step.reads]
        if back:
            g = [a.total for s in story.steps[: at - 1] for a in s.arrivals if a.to == step.place]
            expected = [*g[-1:], *expected, *[summary for _, summary in step.saved]]
            expected += [arrival.total for arrival in step.arrivals]
            cards = cards[0 if g else 1 :]  # the first has the 1 that the pass starts from
        else:
            expected.append(values[step.place].summary)
        assert [card[-1].split() for card in cards] == [s.lines[-1].split() for s in expected]
        seen += 1
        page.press(Keys.ARROW_RIGHT)
    assert seen == 6 + 9  # operations and VJPs of the perceptron, counted by hand
    assert page.step == 15
    assert not page("next").is_enabled()
    page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert page.step == 13
    page.assert_quiet()


def test_the_buttons_and_keys_go_to_both_ends(opened):
    page = opened(reused())
    assert page.step == 1
    assert not page("first").is_enabled()
    assert not page("back").is_enabled()
    for control, at in [("next", 2), ("last", 11), ("back", 10), ("first", 1)]:
        page(control).click()
        assert page.step == at
    page.press(Keys.END)
    assert page.step == 11
    page.press(Keys.HOME)
    assert page.step == 1
    page.assert_quiet()


def test_the_slider_goes_to_a_step_also_from_the_keyboard(opened):
    page = opened(reused())
    assert page("slider").get_attribute("max") == "11"
    page.go(7)
    assert page.step == 7
    assert page("slider").get_attribute("aria-valuetext") == "backward 3 of 7"
    page("slider").send_keys(Keys.ARROW_RIGHT)
    assert page.step == 8
    page.assert_quiet()


def test_it_plays_pauses_and_starts_again_from_the_end(opened):
    page = opened(reused())
    page("play").click()
    assert page("play").text == "Pause"
    WebDriverWait(page.browser, 10).until(lambda _: page.step == 2)
    page("play").click()
    assert page("play").text == "Play"
    page.go(11)
    page.js("document.activeElement.blur()")
    page.press(Keys.SPACE)
    assert page.step == 1
    assert page("play").text == "Pause"
    page.press(Keys.ARROW_RIGHT)  # who steps has stopped it
    assert page("play").text == "Play"
    page.assert_quiet()


def test_space_on_a_button_presses_that_button(opened):
    page = opened(reused())
    page("next").send_keys(Keys.SPACE)
    assert page.step == 2
    assert page("play").text == "Play"


def test_gradients_accumulate(opened):
    page = opened(reused())
    sums = []
    for at, step in enumerate(page.story.steps, 1):
        if step.phase == "backward" and page.story.values[step.arrivals[0].to].name == "x":
            page.go(at)
            sums.append((
                page("step").find_element(By.CLASS_NAME, "sum").text,
                page("step").find_element(By.CLASS_NAME, "formula").text,
                page.shown(page.box("x"))[-1].strip(),
            ))  # fmt: skip
    assert sums == [
        ("dx = 4", "dx = g * 4", "part 4"),
        ("dx = 4 - 6 = -2", "dx += g * x", "part -2"),
        ("dx = 4 - 6 - 6 = -8", "dx += g * x", "grad -8"),
    ]
    assert "x is used 3 times" in page("step").text
    assert "the gradient is complete" in page("step").text


def test_arrays_accumulate_in_three_cards(opened):
    W = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True, name="W")
    L = (W * W).sum()
    page = opened(draw(L, names={"L": L}))
    page.press(Keys.END)
    sum_cards = [card.text for card in page.all("#step .card")[-3:]]
    assert [re.sub(r"\s+", " ", text) for text in sum_cards] == [
        "dW so far 1 2 3 4",
        "+ this step adds 1 2 3 4",
        "= dW the new total 2 4 6 8",
    ]


def test_what_is_not_computed_yet_looks_so(opened):
    page = opened(reused())
    y, x = page.box("y"), page.box("x")
    dim = "return +getComputedStyle(arguments[0]).opacity"
    assert page.js(dim, y) < 0.5
    assert not {"-4", "grad 1"} & set(map(str.strip, page.shown(y)))
    assert page.js(dim, x) == 1
    assert [line.strip() for line in page.shown(x)][-2:] == ["2", "no grad yet"]
    page.go(4)
    assert page.js(dim, y) == 1
    assert [line.strip() for line in page.shown(y)][-2:] == ["-4", "no grad yet"]
    page.go(5)
    assert page.shown(y)[-1].strip() == "grad 1"
    page.go(1)
    assert page.js(dim, y) < 0.5
    assert not any("grad 1" in line for line in page.shown(y))


def test_a_fold_is_one_step(opened):
    page = opened(draw(chain(400), fold=True))
    folded = next(i for i, step in enumerate(page.story.steps, 1) if step.covers > 1)
    page.go(folded)
    covers = page.story.steps[folded - 1].covers
    assert f"{covers} operations, drawn as one box" in page("step").text
    page.press(Keys.END)
    assert page.step == len(page.story.steps)
    page.assert_quiet()


def test_without_a_backward_pass_the_page_says_why(opened):
    page = opened(draw(Tensor(np.ones(3), requires_grad=True, name="x") * 2))
    assert page("place").text.endswith("step 1 of 1")
    assert "starts from one scalar" in page("step").text
    page.assert_quiet()


def test_a_lone_leaf_has_a_page_too(opened):
    page = opened(draw(Tensor(1.0, name="x")))
    assert "no operation was recorded" in page("step").text
    page.assert_quiet()


# --------------------------------------------------------------------------------------------------
# The picture
# --------------------------------------------------------------------------------------------------


def test_it_opens_readable_at_the_first_step_of_a_tall_graph(opened):
    page = opened(draw(chain(60), fold=False))
    _, _, _, height = page.view
    pixels = page("picture").size["height"]
    assert pixels / height >= 0.8  # of 12-point text
    stage, box = page("stage").rect, page.box("v1").rect
    assert stage["y"] <= box["y"]
    assert box["y"] + box["height"] <= stage["y"] + stage["height"]


def test_every_step_is_brought_into_view(opened, perceptron):
    page = opened(draw(perceptron["loss"], names=perceptron))
    stage = page("stage").rect
    for at in range(1, 16):
        page.go(at)
        main = page.all(".halo:not(.also)")[0].rect
        assert stage["x"] <= main["x"]
        assert main["x"] + main["width"] <= stage["x"] + stage["width"]
        assert stage["y"] <= main["y"]
        assert main["y"] + main["height"] <= stage["y"] + stage["height"]


def test_zoom_and_pan_by_key_and_button(opened):
    page = opened(reused())
    start = page.view
    page.press("+")
    assert page.view[2] < start[2]
    page.press("0")
    assert page.view == pytest.approx(start)
    page.press("-")
    assert page.view[2] > start[2]
    for button, narrower in [("in", True), ("out", False)]:
        before = page.view
        page(button).click()
        assert (page.view[2] < before[2]) == narrower
    page("here").click()
    assert page.view == pytest.approx(start)
    for key, axis, sign in [
        (Keys.ARROW_RIGHT, 0, 1), (Keys.ARROW_LEFT, 0, -1), (Keys.ARROW_DOWN, 1, 1), (Keys.ARROW_UP, 1, -1),
    ]:  # fmt: skip
        before = page.view
        page.shifted(key)
        assert np.sign(page.view[axis] - before[axis]) == sign
    assert page.step == 1
    page.press("f")
    whole = page.view
    assert whole[2] > start[2] or whole[3] > start[3]
    page.press("0")
    page("whole").click()
    assert page.view == pytest.approx(whole)
    page.assert_quiet()


def test_zoom_by_wheel_and_pinch_and_pan_by_drag(opened):
    page = opened(reused())
    start = page.view
    picture = page("picture")
    page.js(
        "arguments[0].dispatchEvent(new WheelEvent('wheel',"
        "{deltaY: -300, clientX: 300, clientY: 400, cancelable: true}))", picture,
    )  # fmt: skip
    assert page.view[2] < start[2]
    before = page.view
    ActionChains(page.browser).drag_and_drop_by_offset(picture, 60, -40).perform()
    assert page.view[0] < before[0]
    assert page.view[1] > before[1]
    before = page.view

    def touch(kind, *points):
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        page.browser.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers}
        )

    touch("touchStart", (300, 400))
    touch("touchStart", (300, 400), (400, 400))
    touch("touchMove", (280, 400), (420, 400))
    touch("touchMove", (200, 400), (500, 400))
    touch("touchEnd")
    assert page.view[2] < before[2] / 1.5
    page.assert_quiet()


def test_hover_tells_shape_dtype_value_and_gradient(opened, perceptron):
    page = opened(draw(perceptron["loss"], names=perceptron))
    W1 = page.box("W1")
    value = page.story.values[W1.get_attribute("data-id")].summary.lines[0]
    gradient = page.story.steps[-1].arrivals[0].total.lines[0]
    assert not page("info").is_displayed()
    page.point_at(W1)
    assert page("info").text.split("\n") == [
        "W1", "parameter, (4, 8) float64", value, "no gradient yet",
    ]  # fmt: skip
    page.press(Keys.END)
    page.point_at(page("phase"))
    assert not page("info").is_displayed()
    page.point_at(W1)
    assert page("info").text.split("\n")[2:] == [value, "GRADIENT", gradient]


def test_a_tap_holds_what_it_tells_until_escape(opened):
    page = opened(reused())
    page.box("b").click()
    page.point_at(page("phase"))
    assert page("info").text.startswith("b\nparameter, float64\n-3")
    page.press(Keys.ESCAPE)
    assert not page("info").is_displayed()


def test_search_finds_a_value_from_the_keyboard_alone(opened, perceptron):
    page = opened(draw(perceptron["loss"], names=perceptron))
    page.press("/")
    page.press("w")
    assert [row.text.split("\n")[0] for row in page.all("#found button")] == ["W1", "W2"]
    assert page.step == 1
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert page("info").text.startswith("W2\nparameter, (8, 3) float64")
    page.press(Keys.ESCAPE)
    assert not page("info").is_displayed()
    assert page.all("#found button") == []
    page.press(Keys.ARROW_RIGHT)
    assert page.step == 2
    page.press("/", "loss", Keys.ENTER)
    assert "not computed yet" in page("info").text
    page.press(Keys.ESCAPE, "/", "nothing like it")
    assert page("found").text == "no such name"
    page.assert_quiet()


def test_help_opens_and_closes(opened):
    page = opened(reused())
    page.press("?")
    assert page("help").is_displayed()
    page.press(Keys.ARROW_RIGHT)
    assert page.step == 1
    page.press(Keys.ESCAPE)
    assert not page("help").is_displayed()
    page("ask").click()
    page("close").click()
    assert not page("help").is_displayed()


def test_focus_is_visible_and_reaches_every_control(opened):
    page = opened(reused())
    reached = []
    for _ in range(20):
        page.press(Keys.TAB)
        focus = page.js(
            "const e = document.activeElement; return [e.id, getComputedStyle(e).outlineStyle]"
        )
        if focus[0]:
            reached.append(focus[0])
            assert focus[1] == "solid", focus[0]
    enabled = {"query", "in", "out", "here", "whole", "ask", "slider", "play", "next", "last"}
    assert enabled <= set(reached)


def test_each_step_is_said(opened):
    page = opened(reused())
    assert page("said").get_attribute("aria-live") == "polite"
    page.go(9)
    said = page("said").get_attribute("textContent")
    assert said.startswith("Step 9 of 11, backward. VJP of multiply for b. db = g * v1")


# --------------------------------------------------------------------------------------------------
# Sizes, colours, names
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (320, 568)])
def test_nothing_sticks_out_sideways(opened, perceptron, size):
    page = opened(draw(perceptron["loss"], names=perceptron), size=size)
    for at in (1, 6, 7, 15):
        page.go(at)
        for selector in ("html", "body", "#panel", "#told", "#step", "nav"):
            wide, has = page.js(
                "const e = document.querySelector(arguments[0]); return [e.scrollWidth, e.clientWidth]",
                selector,
            )
            assert wide <= has, selector


def test_on_a_phone_the_panel_is_below_and_the_buttons_are_large(opened, perceptron):
    page = opened(draw(perceptron["loss"], names=perceptron), size=PHONE)
    stage, panel = page("stage").rect, page("panel").rect
    assert panel["y"] >= stage["y"] + stage["height"] - 1
    assert panel["width"] == PHONE[0]
    assert page("told").rect["height"] > 250
    assert min(page(id).rect["height"] for id in ("first", "back", "play", "next", "last")) >= 44


def test_light_and_dark_follow_the_reader(opened):
    color = "return getComputedStyle(document.body).backgroundColor"
    assert opened(reused()).js(color) == "rgb(255, 255, 255)"
    assert opened(reused(), dark=True).js(color) == "rgb(21, 25, 30)"


@pytest.mark.parametrize("name", ["</script><b>", '"; }', "<img src=x onerror=alert(1)>", "&lt;"])
def test_names_are_shown_as_they_are(opened, name):
    page = opened(draw(Tensor(2.0, requires_grad=True, name=name) * 3.0))
    assert name in page("step").text
    assert name in page.shown(page.box(name))
    page.box(name).click()
    assert page("info").text.startswith(name)
    page.press("/", name[:3])
    assert page.all("#found button span")[0].text == name
    assert page.all("img") == []
    page.assert_quiet()


def test_what_was_not_written_by_us_does_not_run(opened):
    """The policy: a script added later is refused."""
    page = opened(reused())
    page.js(
        "const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s)"
    )
    assert page.js("return window.ran") is None
    assert any("Content Security Policy" in e["message"] for e in page.browser.get_log("browser"))
