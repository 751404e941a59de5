"""A reader who answers a kit in a real browser, by keyboard or by mouse."""

import shutil
from collections.abc import Callable, Mapping
from typing import Any

import pytest

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

PATIENCE_MS = 900_000
"""Against hanging alone: a busy machine is many times slower."""

Answers = Mapping[str, Any]
"""By question id: the option or step as text; for errors (code, x, y) each; for texts the text."""


def playwright():
    """The context manager of playwright; skips where it or Debian's Chromium is not there."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium on this machine")
    return api.sync_playwright()


def options() -> dict[str, Any]:
    """How Chromium is started: from the system, without calls of its own."""
    return {"executable_path": shutil.which("chromium"), "args": ARGUMENTS, "timeout": PATIENCE_MS}


def launch(api):
    return api.chromium.launch(**options())


def read(
    page,
    choose: Callable[[int], Answers],
    *,
    count: int | None = None,
    by: str = "mouse",
) -> int:
    """Answers `count` items (default: all that are left) by what `choose(index)` says.

    Begins on the start screen, on an image or on the overview; returns how many items were read.
    """
    press = _keyboard if by == "keyboard" else _mouse
    page.wait_for_selector("#begin:enabled", state="attached")
    for button in ("#begin", "#resume"):
        if page.is_visible(button):
            page.focus(button)
            page.keyboard.press("Enter")
    done = 0
    while page.is_visible("#reading") and done != count:
        index = page.evaluate("state.index")
        press(page, choose(index))
        _next(page, by)
        if page.evaluate("state.index") == index and page.is_visible("#reading"):
            _next(page, by)  # an example shows its truth first
        done += 1
    return done


def _next(page, by: str) -> None:
    if by == "keyboard":
        page.keyboard.press("n")
    else:
        _click(page, "#next")


def _keyboard(page, answers: Answers) -> None:
    for name, kind in _asked(page):
        if name not in answers:
            continue
        if kind in ("choice", "scale"):
            _tab_to(page, name)
            radio = page.locator(f'input[name="{name}"][value="{answers[name]}"]')
            page.keyboard.press(radio.get_attribute("data-keys").split()[-1])
        elif kind == "errors":
            for mark in answers[name]:
                _mark_by_keys(page, name, *mark)
        else:
            page.keyboard.press("c")
            page.keyboard.type(answers[name])
            page.keyboard.press("Escape")


def _tab_to(page, name: str) -> None:
    for _ in range(30):
        if page.evaluate("state.current") == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach the question {name}")


def _mark_by_keys(page, name: str, code: str, x: float, y: float) -> None:
    """Moves the cross hair from the middle in steps of 0.02, 0.004 with Shift."""
    page.keyboard.press("e")
    codes = page.evaluate(f'questions["{name}"].options')
    page.keyboard.press(str(codes.index(code) + 1))
    for share, (less, more) in (
        (x, ("ArrowLeft", "ArrowRight")),
        (y, ("ArrowUp", "ArrowDown")),
    ):
        steps = round((share - 0.5) / 0.004)
        arrow = more if steps > 0 else less
        for _ in range(abs(steps) // 5):
            page.keyboard.press(arrow)
        for _ in range(abs(steps) % 5):
            page.keyboard.press(f"Shift+{arrow}")
    page.keyboard.press("Enter")


def _mouse(page, answers: Answers) -> None:
    for name, kind in _asked(page):
        if name not in answers:
            continue
        if kind in ("choice", "scale"):
            _click(page, f'input[name="{name}"][value="{answers[name]}"]')
        elif kind == "errors":
            for code, x, y in answers[name]:
                _click(page, f'[data-question="{name}"] [data-code="{code}"]')
                page.mouse.click(*place(page, x, y))
        else:
            _click(page, f'textarea[name="{name}"]')
            page.keyboard.insert_text(answers[name])


def _click(page, selector: str) -> None:
    """Clicks the middle of a control that nothing covers, without waiting for it to rest."""
    x, y = page.evaluate(
        """(selector) => {
          const control = document.querySelector(selector);
          control.scrollIntoView({ block: "nearest" });
          const box = control.getBoundingClientRect();
          const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
          const hit = document.elementFromPoint(x, y);
          if (control !== hit && !control.contains(hit)) throw new Error(`${selector} is covered`);
          return [x, y];
        }""",
        selector,
    )
    page.mouse.click(x, y)


def _asked(page) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in page.evaluate("spec.questions.map(q => [q.id, q.kind])")]


def place(page, x: float, y: float) -> list[float]:
    """Where a place of the image lies in the window, in CSS pixels."""
    return page.evaluate(
        """async ([x, y]) => {
          await pictures.ask(state.index);
          const box = viewer.canvas.getBoundingClientRect();
          const ratio = viewer.canvas.width / box.width;
          const [left, top] = viewer.toCanvas({ x, y });
          return [box.left + left / ratio, box.top + top / ratio];
        }""",
        [x, y],
    )
