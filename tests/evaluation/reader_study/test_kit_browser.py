"""The kit in Debian's Chromium: a whole session, what is kept, time, exports, access, sizes."""

import csv
import hashlib
import io
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from evaluation.reader_study.kit_spec import CLASSES, kit_spec, render
from evaluation.reader_study.scripted_reader import (
    PATIENCE_MS,
    launch,
    options,
    place,
    playwright,
    read,
)

SPEC = kit_spec(6, side_px=64)
SIZES = {"desk": (1280, 800), "upright": (820, 1180), "tablet": (1180, 820), "phone": (390, 844)}
COLUMNS = [
    *("format", "study", "kit", "reader", "session", "item", "position", "calibration"),
    *("origin", "confidence", "diagnosis", "quality", "realism", "errors", "comment"),
    *("seconds", "changes", "answered_at", "answered", "of", "check"),
]


def choose(index):
    """Answers that differ from item to item, on the grid that the keyboard reaches."""
    rng = random.Random(index)
    answers = {
        "origin": rng.choice(["real", "synthetic"]),
        "confidence": str(rng.randint(1, 5)),
        "diagnosis": rng.choice(CLASSES),
        "quality": str(rng.randint(-2, 2)),
        "realism": str(rng.randint(-2, 2)),
    }
    if index % 9 == 0:
        answers["errors"] = [("commission", 0.62, 0.444), ("artefact", 0.46, 0.5)][: 1 + index % 2]
    if index % 9 == 1:
        answers["comment"] = f'Größe "{index}", unklar'
    return answers


@pytest.fixture(scope="module")
def api():
    with playwright() as api:
        yield api


@pytest.fixture(scope="module")
def browser(api):
    browser = launch(api)
    yield browser
    browser.close()


def leaves(request):
    """Whether a request is for anything outside the file and was not stopped by its policy."""
    return not request.url.startswith(("file:", "data:", "blob:")) and request.failure != "csp"


@pytest.fixture
def open_kit(browser, tmp_path):
    """Opens a specification in a profile of its own; at the end, nothing was asked of any network."""
    contexts, requests = [], []

    def opened(spec=SPEC, *, size="desk", script=None, clock=False):
        path = tmp_path / f"kit-{len(contexts)}.html"
        path.write_text(render(spec), encoding="utf-8")
        width, height = SIZES[size]
        is_touch = size != "desk"
        context = browser.new_context(
            viewport={"width": width, "height": height}, has_touch=is_touch, is_mobile=is_touch
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: requests.append(request))
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        if clock:
            page.clock.install(time=0)
        page.goto(path.as_uri())
        page.wait_for_selector("#begin:enabled")
        return page

    yield opened
    errors = [error for context in contexts for page in context.pages for error in page.errors]
    for context in contexts:
        context.close()
    assert errors == []
    assert [request.url for request in requests if leaves(request)] == []


def exported(page, ending):
    """Name and text of an export by the buttons of the menu or the overview."""
    if page.is_visible("#reading"):
        page.keyboard.press("m")
    with page.expect_download() as download:
        page.click(f'[data-do="{ending}"]:visible')
    if page.is_visible("#menu"):
        page.keyboard.press("Escape")
    path = Path(download.value.path())
    return download.value.suggested_filename, path.read_bytes().decode("utf-8")


def table(text):
    """Rows of an export as dictionaries, each with its check found right."""
    if text.startswith("\ufeff"):
        columns, *rows = csv.reader(io.StringIO(text[1:], newline=""))
        assert text.endswith("\r\n")
    else:
        columns, rows = json.loads(text)["columns"], json.loads(text)["rows"]
    for row in rows:
        digest = hashlib.sha256("\x1f".join(row[:-1]).encode()).hexdigest()
        assert row[-1] == digest[:16]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def wait_kept(page):
    page.wait_for_function("() => store.waiting === 0")
    assert page.inner_text("#kept") == "Saved"


def processes(profile):
    """Ids of the browser that uses this profile, not of its children."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if f"--user-data-dir={profile}" in words and not any(w.startswith("--type") for w in words):
            yield int(entry.parent.name)


def test_a_session_by_keys_and_mouse_survives_a_reload_and_a_killed_browser(api, tmp_path):
    spec = kit_spec(40)
    path, profile, requests = tmp_path / "kit.html", tmp_path / "profile", []
    path.write_text(render(spec), encoding="utf-8")

    def opened():
        context = api.chromium.launch_persistent_context(profile, **options())
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: requests.append(request))
        page = context.pages[0]
        page.goto(path.as_uri())
        page.wait_for_selector("#begin:enabled")
        return context, page

    context, page = opened()
    assert read(page, choose, count=8, by="keyboard") == 8
    page.keyboard.press("r")  # begun, not finished
    page.reload()
    page.wait_for_selector("#begin:enabled")
    assert page.inner_text("#begin") == "Continue with image 9"
    assert read(page, choose, count=12, by="keyboard") == 12
    wait_kept(page)
    (process,) = processes(profile)
    os.kill(process, signal.SIGKILL)
    while any(processes(profile)):
        time.sleep(0.05)

    context, page = opened()
    assert page.inner_text("#begin") == "Continue with image 21"
    assert page.inner_text("#found") == "20 of 40 images are answered."
    assert read(page, choose, by="mouse") == 20
    assert page.inner_text("#overview-title") == "All 40 images are answered"
    name, as_csv = exported(page, "csv")
    _, as_json = exported(page, "json")
    context.close()

    assert name == "synthetic-chest-x-rays-reading_R1_session1_40of40.csv"
    rows = table(as_csv)
    assert rows == table(as_json)
    assert [row["item"] for row in rows] == [item["id"] for item in spec["items"]]
    for index, row in enumerate(rows):
        assert list(row) == COLUMNS
        facts = {"study": spec["study"], "kit": spec["kit"], "reader": "R1", "session": "1"}
        facts |= {"format": "xraysynth-review/1", "answered": "40", "of": "40", "changes": "0"}
        facts |= {"position": str(index + 1), "calibration": "0"}
        assert facts.items() <= row.items()
        answers = {"comment": "", **choose(index)}
        marks = answers.pop("errors", [])
        assert answers.items() <= row.items()
        found = [mark.split("@") for mark in row["errors"].split(";") if mark]
        assert [code for code, _ in found] == [code for code, _, _ in marks]
        for (_, at), (_, x, y) in zip(found, marks, strict=True):
            assert [float(n) for n in at.split(",")] == pytest.approx([x, y], abs=0.003)
        assert float(row["seconds"]) >= 0  # an image that takes less than 50 ms has none
        assert row["answered_at"].endswith("Z")
    assert sum(float(row["seconds"]) for row in rows) > 0
    assert [request.url for request in requests if leaves(request)] == []


def answer_one(page, keys="r1111"):
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.press("n")


def test_going_back_keeps_answers_and_counts_what_is_changed(open_kit):
    page = open_kit()
    page.keyboard.press("Enter")
    answer_one(page, "r4321")
    answer_one(page, "s1234")
    page.keyboard.press("b")
    page.keyboard.press("b")
    assert page.is_checked('input[value="real"]')
    page.keyboard.press("s")
    page.keyboard.press("r")
    page.keyboard.press("r")  # the same again is no change
    page.click("[data-code=omission]")
    page.mouse.click(*place(page, 0.25, 0.75))
    page.keyboard.press("n")
    first, second = table(exported(page, "json")[1])
    assert [first["origin"], first["changes"]] == ["real", "3"]
    assert first["errors"].startswith("omission@0.2")
    assert [second["origin"], second["confidence"], second["changes"]] == ["synthetic", "1", "0"]


def test_a_mark_can_be_taken_away_and_marking_left(open_kit):
    page = open_kit()
    page.keyboard.press("Enter")
    page.keyboard.press("e")
    page.keyboard.press("2")
    assert page.is_visible("#marking")
    page.keyboard.press("Escape")
    assert page.is_hidden("#marking")
    page.mouse.click(*place(page, 0.5, 0.5))  # places nothing now
    for code in ("subtle", "artefact"):
        page.click(f"[data-code={code}]")
        page.mouse.click(*place(page, 0.1, 0.9))
    page.click('[aria-label="Remove mark 1, Discrepancy"]')
    answer_one(page)
    (row,) = table(exported(page, "csv")[1])
    assert row["errors"].split("@")[0] == "artefact"


def test_required_answers_are_asked_for_by_name(open_kit):
    page = open_kit()
    page.keyboard.press("Enter")
    page.keyboard.press("r")
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    assert page.inner_text("#progress") == "Image 1 of 6"
    assert page.inner_text("#missing-diagnosis") == "Please answer: Diagnosis"
    assert page.evaluate("document.activeElement.name") == "diagnosis"
    assert "Diagnosis, Image quality, Realism" in page.inner_text("#live")
    page.keyboard.press("m")
    page.click("#menu [data-do=csv]")
    assert "nothing to export" in page.inner_text("#menu .message")


def test_pauses_idle_time_and_other_windows_do_not_count(open_kit):
    page = open_kit(clock=True)
    page.clock.pause_at(3_600_000)  # long after it has loaded
    page.keyboard.press("Enter")
    page.clock.run_for(4_000)
    page.keyboard.press("p")
    assert page.is_visible("#pause")
    page.clock.run_for(300_000)
    page.keyboard.press("p")
    page.clock.run_for(3_000)
    answer_one(page)  # 7 s
    page.clock.run_for(2_000)
    page.keyboard.press("r")
    page.clock.run_for(500_000)
    answer_one(page)  # 2 s, and the first minute of the gap
    page.clock.run_for(5_000)
    page.evaluate("document.hasFocus = () => false; window.dispatchEvent(new Event('blur'))")
    page.clock.run_for(40_000)
    page.evaluate("document.hasFocus = () => true; window.dispatchEvent(new Event('focus'))")
    page.clock.run_for(1_000)
    answer_one(page)  # 6 s
    seconds = [float(row["seconds"]) for row in table(exported(page, "csv")[1])]
    assert seconds == pytest.approx([7, 62, 6], abs=0.2)
    assert page.inner_text("#left") == "less than a minute left"  # 3 times the median of 7 s


def test_examples_come_first_and_show_the_truth_after_the_answer(open_kit):
    spec = kit_spec(3, side_px=64, calibration=1)
    page = open_kit(spec)
    page.keyboard.press("Enter")
    assert "Example" in page.inner_text("#example")
    assert page.inner_text("#truth") == ""
    answer_one(page)
    assert page.inner_text("#truth") == "This is: Synthetic, Pneumonia"
    page.keyboard.press("s")  # too late
    page.keyboard.press("n")
    assert page.is_hidden("#example")
    answer_one(page)
    first, second = table(exported(page, "csv")[1])
    assert [first["calibration"], first["origin"], second["calibration"]] == ["1", "real", "0"]


COMMENT = '=SUM(A1)\n"ä", ∑ 😀'


@pytest.fixture
def begun(open_kit):
    """A kit with two items answered, the first with a difficult comment."""
    page = open_kit()
    read(page, lambda i: choose(1) | ({"comment": COMMENT} if i == 0 else {}), count=2)
    return page


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_an_export_continues_on_another_machine(open_kit, begun, tmp_path, ending):
    name, text = exported(begun, ending)
    assert name.endswith(f"_2of6.{ending}")
    before = table(text)
    assert before[0]["comment"] == "'" + COMMENT
    file = tmp_path / name
    file.write_bytes(text.encode())
    page = open_kit()
    page.set_input_files("#file", file)
    page.wait_for_selector("text=2 answers were read, and 2 of them are new here.")
    assert page.inner_text("#begin") == "Continue with image 3"
    assert read(page, choose) == 4
    after = table(exported(page, ending)[1])
    counts = ("answered", "check")
    for old, new in zip(before, after, strict=False):
        assert {k: v for k, v in old.items() if k not in counts} == {
            k: v for k, v in new.items() if k not in counts
        }
    assert len(after) == 6


def edited(text, edit):
    """A JSON export after a change of its rows."""
    value = json.loads(text)
    edit(value["rows"])
    return json.dumps(value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.replace('"ba9876543210"', '"000000000000"'), "belongs to another kit"),
        (lambda t: edited(t, lambda rows: rows[1].__setitem__(8, "other")), "Row 2 of this export"),
        (lambda t: edited(t, lambda rows: rows.append(rows[0])), "Row 1 of this export"),
        (lambda t: edited(t, list.pop), "has only 1 of 2 rows"),
        (lambda t: t[:-9], "is not an export"),
        (lambda t: "PK\x03\x04", "is not an export"),
    ],
)
def test_other_and_altered_exports_are_refused(open_kit, begun, tmp_path, edit, message):
    file = tmp_path / "export.json"
    file.write_text(edit(exported(begun, "json")[1]), encoding="utf-8")
    page = open_kit()
    page.set_input_files("#file", file)
    page.wait_for_selector(f"#start .message.error:has-text('{message}')")
    assert page.inner_text("#begin") == "Begin"


def test_a_later_answer_of_this_machine_stays(begun, tmp_path):
    file = tmp_path / "export.json"
    file.write_text(exported(begun, "json")[1], encoding="utf-8")
    begun.keyboard.press("b")
    begun.keyboard.press("r" if choose(1)["origin"] == "synthetic" else "s")
    begun.keyboard.press("n")
    begun.set_input_files("#file", file)
    begun.wait_for_selector("text=2 answers were read, and 0 of them are new here.")


def test_a_browser_that_keeps_nothing_warns_and_still_exports(open_kit):
    throws = "{ get() { throw new DOMException('denied', 'SecurityError'); } }"
    script = "".join(
        f"Object.defineProperty(window, '{name}', {throws});"
        for name in ("localStorage", "indexedDB")
    )
    page = open_kit(script=script)
    assert "cannot save your answers" in page.inner_text("#start .unkept")
    page.keyboard.press("Enter")
    answer_one(page)
    assert page.inner_text("#kept") == "Not saved"
    warned = []
    page.on("dialog", lambda dialog: (warned.append(dialog.type), dialog.dismiss()))
    with page.expect_event("dialog"):
        page.close(run_before_unload=True)
    assert warned == ["beforeunload"]
    assert len(table(exported(page, "csv")[1])) == 1


def test_two_tabs_with_one_kit_know_of_each_other(open_kit):
    page = open_kit()
    page.keyboard.press("Enter")
    other = page.context.new_page()
    other.errors = []
    other.goto(page.url)
    other.wait_for_selector("#begin:enabled")
    page.bring_to_front()
    answer_one(page)
    other.wait_for_function("() => Object.values(state.records).some((r) => r.left)")


def test_nothing_can_leave_the_page(open_kit):
    page = open_kit()
    blocked = page.evaluate(
        """async () => {
          const found = [];
          document.addEventListener("securitypolicyviolation", (e) => found.push(e.effectiveDirective));
          await fetch("http://127.0.0.1:9/").catch(() => null);
          const image = new Image();
          const failed = new Promise((resolve) => { image.onerror = resolve; });
          image.src = "http://127.0.0.1:9/a.png";
          await failed;
          return found;
        }"""
    )
    assert sorted(blocked) == ["connect-src", "img-src"]


def test_sha256_is_that_of_hashlib(open_kit):
    texts = ["ä∑😀" * n + "x" * m for n in (0, 7, 70) for m in (0, 1, 54, 55, 56, 63, 64, 65, 119)]
    found = open_kit().evaluate("texts => texts.map(sha256)", texts)
    assert found == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def shown(page):
    """Grey levels along the middle row of the canvas."""
    return page.evaluate(
        """() => {
          viewer.draw();
          const { canvas } = viewer;
          const row = viewer.context.getImageData(0, canvas.height >> 1, canvas.width, 1).data;
          return Array.from(row).filter((_, i) => i % 4 === 0);
        }"""
    )


def test_window_level_inversion_and_zoom_change_what_is_shown(open_kit):
    page = open_kit()
    page.keyboard.press("Enter")
    middle = place(page, 0.5, 0.5)
    plain = shown(page)
    inside = [i for i, value in enumerate(plain) if value > 20]
    page.keyboard.press("i")
    inverted = shown(page)
    assert [255 - inverted[i] for i in inside] == pytest.approx([plain[i] for i in inside], abs=3)
    page.keyboard.press("0")
    assert shown(page) == plain
    page.mouse.move(*middle)
    page.mouse.down(button="right")
    page.mouse.move(middle[0] - 200, middle[1])
    page.mouse.up(button="right")
    assert page.evaluate("viewer.window") == 55
    assert max(shown(page)) == 255
    page.keyboard.press("0")
    page.mouse.wheel(0, -300)
    page.wait_for_function("() => viewer.zoom > 1.5")
    left = page.evaluate("viewer.x")
    page.mouse.down()
    page.mouse.move(middle[0] + 50, middle[1])
    page.mouse.up()
    assert page.evaluate("viewer.x") < left
    page.keyboard.press("v")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("viewer.x") > left
    page.keyboard.press("0")
    assert shown(page) == plain


HELD_BACK = """
  const decode = window.createImageBitmap;
  const come = new Promise((resolve) => { window.letImagesCome = resolve; });
  window.createImageBitmap = async (...given) => { await come; return decode(...given); };
"""


def test_who_is_quicker_than_the_image_loses_nothing(open_kit):
    page = open_kit(script=HELD_BACK)
    for key in ("Enter", "e", "2", "ArrowRight", "+"):
        page.keyboard.press(key)
    page.mouse.move(640, 400)
    page.mouse.wheel(0, -300)
    assert page.evaluate("viewer.image") is None
    page.evaluate("async () => { letImagesCome(); await pictures.ask(0); }")
    assert page.evaluate("[viewer.zoom, viewer.cursor.x, viewer.image.width]") == [1.25, 0.52, 64]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    answer_one(page)
    (row,) = table(exported(page, "csv")[1])
    assert row["errors"].endswith("@0.5360,0.5000")


def test_who_goes_to_and_fro_at_once_sees_the_image(open_kit):
    page = open_kit()
    width = page.evaluate(
        """async () => {
          showItem(5);
          await pictures.ask(5);
          showItem(0); // which forgets the images further away, but not before
          showItem(5);
          await new Promise((resolve) => setTimeout(resolve));
          viewer.draw();
          return viewer.image.width; // of a forgotten image 0
        }"""
    )
    assert width == 64


def test_two_fingers_zoom_and_one_moves(open_kit):
    page = open_kit(size="phone")
    page.tap("#begin")
    x, y = place(page, 0.5, 0.5)
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        places = [{"x": x + dx, "y": y + dy, "id": i} for i, (dx, dy) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (-30, 0), (30, 0))
    for spread in range(35, 65, 5):
        touch("touchMove", (-spread, 0), (spread, 0))
    touch("touchEnd")
    page.wait_for_function("() => viewer.zoom > 1.9 && viewer.zoom < 2.1")
    assert page.evaluate("viewer.x") == pytest.approx(0.5, abs=0.05)
    touch("touchStart", (0, 0))
    touch("touchMove", (0, 20))
    touch("touchMove", (0, 40))
    touch("touchEnd")
    page.wait_for_function("() => viewer.y < 0.47")


def test_shortcuts_can_be_switched_off(open_kit):
    page = open_kit()
    page.keyboard.press("Enter")
    page.keyboard.press("m")
    page.uncheck("#keys")
    page.keyboard.press("Escape")
    for key in "r1n":
        page.keyboard.press(key)
    assert page.inner_text("#progress") == "Image 1 of 6"
    assert page.evaluate("record().values") == {}


def serious(page):
    """What axe finds serious or critical, as rule and element."""
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        (rule["id"], node["target"])
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("language", ["en", "de"])
def test_axe_finds_nothing_serious_on_any_screen(open_kit, language):
    page = open_kit(kit_spec(4, side_px=64, calibration=1, language=language))
    found = {"start": serious(page)}
    page.keyboard.press("Enter")
    page.keyboard.press("e")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.keyboard.press("n")
    found["missing answers"] = serious(page)
    answer_one(page)
    found["truth"] = serious(page)
    page.keyboard.press("?")
    found["help"] = serious(page)
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    found["menu"] = serious(page)
    page.keyboard.press("Escape")
    page.keyboard.press("o")
    found["overview"] = serious(page)
    assert {name: what for name, what in found.items() if what} == {}


UNREACHABLE = """(least) => {
  const found = [];
  const controls = document.querySelectorAll("button, input, textarea, canvas");
  for (const control of controls) {
    if (!control.checkVisibility() || control.disabled) continue;
    control.scrollIntoView({ block: "nearest" });
    const box = control.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    const hit = document.elementFromPoint(x, y);
    const isHit = hit && (control.contains(hit) || hit.contains(control));
    const isSmall = Math.min(box.width, box.height) < least && control.type !== "checkbox";
    const isOut = box.left < 0 || box.right > innerWidth || box.bottom > innerHeight + 1;
    if (!isHit || isSmall || isOut) found.push(control.outerHTML.slice(0, 90));
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push("sideways scroll");
  return found;
}"""


@pytest.mark.parametrize("size", SIZES)
def test_every_control_can_be_reached_on_every_screen(open_kit, size):
    page = open_kit(kit_spec(4, side_px=64, language="de"), size=size)
    least = 24 if size == "desk" else 44
    found = {"start": page.evaluate(UNREACHABLE, least)}
    page.keyboard.press("Enter")
    page.click("[data-code=subtle]")
    page.mouse.click(*place(page, 0.4, 0.6))
    found["reading"] = page.evaluate(UNREACHABLE, least)
    share = page.evaluate("viewer.scale * viewer.image.height / viewer.canvas.height")
    assert share > 0.9 or page.evaluate("viewer.scale * 64 / viewer.canvas.width") > 0.9
    answer_one(page)
    for key, name in (("m", "menu"), ("?", "help")):
        page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        page.keyboard.press("Escape")
    page.keyboard.press("o")
    found["overview"] = page.evaluate(UNREACHABLE, least)
    assert {name: what for name, what in found.items() if what} == {}


def test_questions_of_the_study_and_an_unknown_diagnosis_are_asked_and_exported(open_kit):
    own = [
        {
            "id": "diagnosis",
            "kind": "choice",
            "options": ["lung_opacity", "other"],
            "required": True,
        },
        {
            "id": "projection",
            "kind": "choice",
            "options": ["a", "b"],
            "required": True,
            "text": {"en": "Projection?", "de": "Projektion?"},
        },
        {"id": "sum_up", "kind": "text", "required": True, "text": "In a word"},
    ]
    page = open_kit(SPEC | {"questions": own, "language": "de"})
    page.keyboard.press("Enter")
    assert "Projektion?" in page.inner_text("#questions")
    assert "lung opacity" in page.inner_text("#questions")
    answers = {"diagnosis": "lung_opacity", "projection": "b", "sum_up": "-gut"}
    assert read(page, lambda index: answers, count=1, by="keyboard") == 1
    (row,) = table(exported(page, "csv")[1])
    assert list(row) == [*COLUMNS[:15], "projection", "sum_up", *COLUMNS[15:]]
    assert [row["projection"], row["sum_up"], row["origin"]] == ["b", "'-gut", ""]
