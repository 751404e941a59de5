// The questions beside the image, as the specification asks them.
"use strict";

function questionText(question) {
  const own = question.text;
  if (typeof own === "string") return own;
  if (own) return own[spec.language] ?? Object.values(own)[0];
  return texts[`question.${question.id}`] ?? question.id;
}

function optionText(question, option) {
  return texts[`option.${question.id}.${option}`] ?? option.replaceAll("_", " ");
}

function options(question) {
  if (question.kind !== "scale") return question.options.map((o) => [o, optionText(question, o)]);
  const steps = Array.from({ length: question.high - question.low + 1 }, (_, i) => question.low + i);
  const sign = (n) => (n < 0 ? `−${-n}` : n > 0 && question.low < 0 ? `+${n}` : String(n));
  return steps.map((n) => [String(n), sign(n)]);
}

/** The keys of an option: its place as a digit, and a letter of its own where the texts give one. */
function optionKeys(question, option, place) {
  const letter = texts[`key.${question.id}.${option}`];
  return [letter, place < 9 ? String(place + 1) : null].filter(Boolean);
}

function buildQuestions() {
  const build = { choice: buildRadios, scale: buildRadios, errors: buildErrors, text: buildText };
  for (const question of spec.questions) {
    const legend = element("legend", { textContent: questionText(question) });
    const isFree = !question.required || question.kind === "errors";
    if (isFree) legend.append(element("small", { textContent: ` ${t("question.optional")}` }));
    const fieldset = element("fieldset", { className: `question ${question.kind}` }, [legend]);
    Object.assign(fieldset.dataset, { question: question.id, kind: question.kind });
    fieldset.append(...build[question.kind](question));
    fieldset.append(element("p", { className: "missing", id: `missing-${question.id}` }));
    fieldset.addEventListener("focusin", () => makeCurrent(question.id));
    $("questions").append(fieldset);
  }
}

function cap(key) {
  const kbd = element("kbd", { textContent: key.toUpperCase() });
  kbd.setAttribute("aria-hidden", "true");
  return kbd;
}

function buildRadios(question) {
  const all = options(question);
  const tiles = all.map(([value, text], place) => {
    const end = place === 0 ? "low" : place === all.length - 1 ? "high" : "";
    const words = end && texts[`${end}.${question.id}`];
    const keys = optionKeys(question, value, place);
    const radio = element("input", { type: "radio", name: question.id, value });
    radio.dataset.keys = keys.join(" ");
    radio.setAttribute("aria-keyshortcuts", keys.join(" "));
    if (words) radio.setAttribute("aria-label", `${text}, ${words}`);
    radio.addEventListener("change", () => answer(question.id, value));
    radio.addEventListener("click", (event) => {
      if (event.detail > 0) advance(question.id); // not when an arrow key walks through the options
    });
    const parts = [radio, element("span", { textContent: text })];
    if (keys.length && keys[0] !== text) parts.splice(1, 0, cap(keys[0]));
    return element("label", { className: "option" }, parts);
  });
  const row = element("div", { className: "options" }, tiles);
  row.style.setProperty("--columns", question.kind === "scale" ? all.length : 2);
  const ends = [texts[`low.${question.id}`], texts[`high.${question.id}`]];
  if (!ends[0] || !ends[1]) return [row];
  const spans = ends.map((textContent) => element("span", { textContent }));
  const line = element("div", { className: "ends" }, spans);
  line.setAttribute("aria-hidden", "true");
  return [row, line];
}

function buildErrors(question) {
  const buttons = options(question).map(([code, text], place) => {
    const parts = [element("span", { textContent: text })];
    if (place < 9) parts.unshift(cap(String(place + 1)));
    const button = element("button", { type: "button", className: "option" }, parts);
    button.dataset.code = code;
    button.title = texts[`hint.${question.id}.${code}`] ?? "";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => startMarking(question.id, code));
    return button;
  });
  const row = element("div", { className: "options" }, buttons);
  row.style.setProperty("--columns", 2);
  return [row, element("ol", { className: "marks" })];
}

function buildText(question) {
  const box = element("textarea", { rows: 2, name: question.id });
  box.setAttribute("aria-label", questionText(question));
  box.addEventListener("input", () => answer(question.id, box.value, { isChange: false }));
  box.addEventListener("change", () => answer(question.id, box.value));
  return [box];
}

function fieldsetOf(id) {
  return document.querySelector(`fieldset[data-question="${CSS.escape(id)}"]`);
}

function radioOf(id, value) {
  return fieldsetOf(id).querySelector(`input[value="${CSS.escape(value)}"]`);
}

function makeCurrent(id) {
  state.current = id;
  for (const fieldset of document.querySelectorAll("fieldset.question")) {
    fieldset.classList.toggle("current", fieldset.dataset.question === id);
  }
}

function focusQuestion(id) {
  const inside = fieldsetOf(id);
  const target = inside.querySelector("input:checked") ?? inside.querySelector("input, button, textarea");
  makeCurrent(id);
  target.focus();
}

/** Goes to the next choice or scale without an answer, or to the button that goes on. */
function advance(id) {
  const at = spec.questions.findIndex((q) => q.id === id);
  const order = [...spec.questions.slice(at + 1), ...spec.questions.slice(0, at + 1)];
  const next = order.find((q) => RADIO.includes(q.kind) && !hasValue(q, record()));
  if (next) return focusQuestion(next.id);
  makeCurrent(null);
  return $("next").focus();
}
