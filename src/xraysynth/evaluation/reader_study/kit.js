// The reading: screens, questions, keys, time.
"use strict";

const { spec, texts } = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const IDLE = 60_000; // ms without any input after which reading time stops
const NEAR = 0.02; // step of the cross hair, as a fraction of the view

const state = {
  index: -1, // the item on the screen
  records: {}, // by item id
  current: null, // id of the question that digits answer
  marking: null, // code of the error that the reader is placing
  isReading: false,
  since: 0, // ms up to which time has been counted
  input: 0, // ms of the last input
  exported: true, // whether all answers are in a file, which matters where the browser cannot save
  hasKeys: true,
};
const questions = Object.fromEntries(spec.questions.map((q) => [q.id, q]));
const pictures = new Pictures(spec);
const store = new Store(spec, showKept);
const viewer = new Viewer($("image"), { onplace: place, onview: showView });

/** A text of the kit's language with its {places} filled. */
function t(key, values = {}) {
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

function element(tag, properties = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function announce(text) {
  $("live").textContent = text;
}

/** Shows a message on every screen that has a place for it. */
function say(text, { isError = false } = {}) {
  for (const line of document.querySelectorAll(".message")) {
    line.textContent = text;
    line.classList.toggle("error", isError);
  }
}

// ---------------------------------------------------------------- answers

function item() {
  return spec.items[state.index];
}

function record() {
  state.records[item().id] ??= emptyRecord();
  return state.records[item().id];
}

/** Records and saves an answer; `isChange` is false while a text is still being typed. */
function answer(id, value, { isChange = true } = {}) {
  const now = record();
  if (isRevealed()) return;
  const isSame = JSON.stringify(now.values[id]) === JSON.stringify(value);
  now.values[id] = value;
  now.answeredAt = new Date().toISOString();
  if (now.left && isChange && (!isSame || questions[id].kind === "text")) now.changes += 1;
  $(`missing-${id}`).textContent = "";
  keep();
  showProgress();
}

function keep() {
  countTime();
  state.exported = false;
  store.put(item().id, record());
}

function isRevealed() {
  return item().calibration && record().left;
}

function startMarking(id, code) {
  if (state.marking?.code === code && state.marking.id === id) return stopMarking();
  state.marking = { id, code };
  viewer.startMarking();
  $("image").focus();
  showMarking();
  return announce(t("marking.start", { error: optionText(questions[id], code) }));
}

function stopMarking() {
  const { id } = state.marking;
  state.marking = null;
  viewer.stopMarking();
  showMarking();
  focusQuestion(id);
}

function showMarking() {
  const { id, code } = state.marking ?? {};
  $("marking").hidden = !code;
  $("image").classList.toggle("marking", Boolean(code));
  if (code) {
    const hint = texts[`hint.${id}.${code}`] ?? "";
    $("marking").textContent = t("marking.how", { error: optionText(questions[id], code), hint });
  }
  for (const button of document.querySelectorAll("button[data-code]")) {
    button.setAttribute("aria-pressed", String(button.dataset.code === code));
  }
}

function place({ x, y }) {
  const { id, code } = state.marking;
  answer(id, [...(record().values[id] ?? []), { code, x, y }]);
  stopMarking();
  showMarks();
  announce(t("marking.placed", { error: optionText(questions[id], code) }));
}

function moveCursor(x, y) {
  viewer.moveCursor(x, y);
  const percent = (share) => Math.round(100 * share);
  announce(t("marking.at", { x: percent(viewer.cursor.x), y: percent(viewer.cursor.y) }));
}

function removeMark(id, number) {
  const rest = record().values[id].filter((_, i) => i !== number);
  answer(id, rest.length ? rest : undefined);
  showMarks();
  focusQuestion(id);
}

function showMarks() {
  viewer.marks = [];
  for (const question of spec.questions.filter((q) => q.kind === "errors")) {
    const marks = record().values[question.id] ?? [];
    const lines = marks.map((mark, i) => {
      const words = optionText(question, mark.code);
      const button = element("button", { type: "button", textContent: "×", disabled: isRevealed() });
      button.setAttribute("aria-label", t("marking.remove", { error: words, number: i + 1 }));
      button.addEventListener("click", () => removeMark(question.id, i));
      return element("li", {}, [element("span", { textContent: words }), button]);
    });
    fieldsetOf(question.id).querySelector("ol").replaceChildren(...lines);
    viewer.marks.push(...marks);
  }
  viewer.changed();
}

// ---------------------------------------------------------------- time

/** Adds the time since the last call, up to `IDLE` after the last input. */
function countTime() {
  const now = performance.now();
  const seen = Math.min(now, state.input + IDLE) - state.since;
  if (state.isReading) record().seconds += Math.max(0, seen) / 1000;
  state.since = now;
}

function touched() {
  countTime();
  state.input = performance.now();
}

/** Whether time counts: the image is shown, nothing lies over it, and the page has the focus. */
function setReading() {
  countTime();
  const isOpen = !$("reading").hidden && !document.querySelector("dialog[open]");
  state.isReading = isOpen && document.visibilityState === "visible" && document.hasFocus();
  if (state.isReading) state.input = performance.now();
}

/** Remaining time: the median seconds of answered items times the open ones, once three are answered. */
function secondsLeft() {
  const done = spec.items.filter((i) => !i.calibration && state.records[i.id]?.left);
  if (done.length < 3) return null;
  const times = done.map((i) => state.records[i.id].seconds).sort((a, b) => a - b);
  const middle = (times[(times.length - 1) >> 1] + times[times.length >> 1]) / 2;
  return middle * spec.items.filter((i) => !state.records[i.id]?.left).length;
}

// ---------------------------------------------------------------- screens

function showScreen(id) {
  for (const screen of document.querySelectorAll("main > section")) screen.hidden = screen.id !== id;
  say("");
  setReading();
}

function countAnswered() {
  return spec.items.filter((i) => isAnswered(spec, state.records[i.id])).length;
}

/** Index of the first item that was not answered and left, or -1. */
function firstOpen() {
  const isDone = (i) => state.records[i.id]?.left && isAnswered(spec, state.records[i.id]);
  return spec.items.findIndex((i) => !isDone(i));
}

function showStart() {
  showScreen("start");
  const answered = countAnswered();
  const next = firstOpen();
  const isNew = Object.keys(state.records).length === 0;
  const going = next < 0 ? t("start.done") : t("start.continue", { n: next + 1 });
  $("begin").textContent = isNew ? t("start.begin") : going;
  $("found").textContent = isNew ? "" : t("start.found", { n: answered, of: spec.items.length });
  $("begin").disabled = false;
  $("begin").focus();
}

function begin() {
  const next = firstOpen();
  return next < 0 ? showOverview() : showItem(next);
}

function showItem(index) {
  leave();
  state.index = index;
  const bitmap = pictures.ready(index);
  viewer.show(bitmap ?? null, []);
  $("image").dataset.item = bitmap ? item().id : "";
  if (!bitmap) loadItem(index);
  if ($("reading").hidden) showScreen("reading");
  else setReading();
  showAnswers();
  const first = spec.questions.find((q) => RADIO.includes(q.kind) && !hasValue(q, record()));
  if (isRevealed()) $("next").focus();
  else focusQuestion((first ?? spec.questions[0]).id);
  $("questions").scrollTop = 0;
  setTimeout(aroundShown); // after this image is on the screen
}

/** Decodes the neighbours of the item on the screen now, which may have changed since the call. */
function aroundShown() {
  return pictures.around(Math.max(0, state.index));
}

/** Shows an image that was not ready, without losing answers given meanwhile. */
async function loadItem(index) {
  const bitmap = await pictures.ask(index);
  if (index !== state.index) return;
  viewer.fill(bitmap);
  $("image").dataset.item = item().id;
}

/** Fills in what has been answered for the item on the screen. */
function showAnswers() {
  const { values } = record();
  for (const radio of document.querySelectorAll("fieldset input")) {
    radio.checked = values[radio.name] === radio.value;
  }
  for (const box of document.querySelectorAll("textarea")) box.value = values[box.name] ?? "";
  for (const line of document.querySelectorAll(".missing")) line.textContent = "";
  for (const fieldset of document.querySelectorAll("fieldset")) fieldset.disabled = isRevealed();
  if (isRevealed()) $("questions").tabIndex = 0; // can be scrolled though nothing in it takes focus
  else $("questions").removeAttribute("tabindex");
  $("image").setAttribute("aria-label", t("image.label", { n: state.index + 1 }));
  showTruth();
  showMarks();
  showProgress();
  announce($("progress").textContent);
}

function showTruth() {
  const { calibration, truth } = item();
  $("example").hidden = !calibration;
  const words = Object.entries(truth ?? {}).map(([id, value]) => optionText({ id }, String(value)));
  const isShown = isRevealed() && words.length > 0;
  $("truth").textContent = isShown ? t("example.truth", { truth: words.join(", ") }) : "";
  const isLast = state.index === spec.items.length - 1;
  $("next-text").textContent =
    calibration && !isRevealed() ? t("example.reveal") : isLast ? t("next.last") : t("next");
  $("back").disabled = state.index === 0;
}

function showProgress() {
  const [n, of] = [state.index + 1, spec.items.length];
  $("progress").textContent = t("progress", { n, of });
  $("bar").value = countAnswered();
  $("bar").textContent = `${countAnswered()} / ${of}`;
  const left = secondsLeft();
  const minutes = Math.round(left / 60);
  $("left").textContent =
    left === null ? "" : minutes < 1 ? t("left.less") : t("left.minutes", { n: minutes });
}

function showKept() {
  $("kept").textContent = store.works ? (store.waiting ? t("kept.wait") : t("kept.yes")) : t("kept.no");
  $("kept").classList.toggle("error", !store.works);
  for (const line of document.querySelectorAll(".unkept")) line.hidden = store.works;
}

function showView({ zoom, window, level, invert }) {
  $("zoom").textContent = `${Math.round(100 * zoom)} %`;
  $("window").value = window;
  $("level").value = level;
  $("invert").setAttribute("aria-pressed", String(invert));
}

/** Counts the item on the screen as left if it is answered. */
function leave() {
  if (state.index < 0 || $("reading").hidden) return;
  if (state.marking) stopMarking();
  if (!item().calibration && isAnswered(spec, record())) record().left = true;
  keep();
}

function next() {
  if ($("next").disabled) return;
  const lacking = missing(spec, record());
  for (const q of spec.questions) {
    const isMissing = lacking.includes(q) && t("missing.one", { question: questionText(q) });
    $(`missing-${q.id}`).textContent = isMissing || "";
  }
  if (lacking.length) {
    focusQuestion(lacking[0].id);
    announce(t("missing.all", { questions: lacking.map(questionText).join(", ") }));
    return;
  }
  const isReveal = item().calibration && !record().left;
  record().left = true;
  record().answeredAt ||= new Date().toISOString();
  if (isReveal) reveal();
  else if (state.index < spec.items.length - 1) showItem(state.index + 1);
  else showOverview();
}

function reveal() {
  keep();
  showAnswers();
  announce($("truth").textContent);
  $("next").focus();
}

function back() {
  if (state.index > 0) showItem(state.index - 1);
}

function showOverview() {
  closeDialogs();
  leave();
  showScreen("overview");
  const isDone = (i) => isAnswered(spec, state.records[i.id]);
  const button = (i) => {
    const n = spec.items.indexOf(i) + 1;
    const button = element("button", { type: "button", textContent: String(n) });
    button.setAttribute("aria-label", t("overview.image", { n }));
    button.addEventListener("click", () => showItem(n - 1));
    return button;
  };
  const open = spec.items.filter((i) => !isDone(i));
  const done = spec.items.filter(isDone);
  $("open-items").replaceChildren(...open.map(button));
  $("done-items").replaceChildren(...done.map(button));
  $("open-part").hidden = !open.length;
  $("done-part").hidden = !done.length;
  const counts = { n: done.length, of: spec.items.length };
  $("overview-title").textContent = open.length ? t("overview.part", counts) : t("overview.done", counts);
  $("overview-what").textContent = open.length ? t("overview.can_export") : t("overview.send");
  $("resume").hidden = firstOpen() < 0;
  $("overview-title").focus();
}

// ---------------------------------------------------------------- files

function download(text, ending) {
  const type = ending === "csv" ? "text/csv;charset=utf-8" : "application/json";
  const address = URL.createObjectURL(new Blob([text], { type }));
  const name = fileName(spec, state.records, ending);
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  state.exported = true;
  say(t("export.done", { file: name }));
}

function exportAs(ending) {
  countTime();
  if (!countAnswered()) return say(t("export.nothing"), { isError: true });
  return download((ending === "csv" ? toCsv : toJson)(spec, state.records), ending);
}

/** Imports the rows of an earlier export; of two answers to an item the later one stays. */
async function importFile(file) {
  leave();
  let entries;
  try {
    entries = readExport(spec, await file.text());
  } catch (error) {
    if (!(error instanceof ExportError)) throw error;
    return say(t(error.key, error.values), { isError: true });
  }
  const isNewer = ([id, read]) => {
    const own = state.records[id];
    return !isAnswered(spec, own) || own.answeredAt < read.answeredAt;
  };
  const taken = entries.filter(isNewer);
  for (const [id, read] of taken) {
    read.revision = state.records[id]?.revision ?? 0;
    state.records[id] = read;
  }
  await Promise.all(taken.map(([id, read]) => store.put(id, read)));
  if ($("overview").hidden) showStart();
  else showOverview();
  closeDialogs();
  return say(t("import.done", { rows: entries.length, taken: taken.length }));
}

// ---------------------------------------------------------------- dialogs and keys

function openDialog(id) {
  if (document.querySelector("dialog[open]")) return;
  say("");
  $(id).showModal();
  setReading();
}

function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  setReading(); // the event "close" comes later, when the reader may have gone on already
}

function focusFirst(kind) {
  const question = spec.questions.find((q) => q.kind === kind);
  if (question && !isRevealed()) focusQuestion(question.id);
}

function invert() {
  viewer.toggleInvert();
  announce(t(viewer.invert ? "view.inverted" : "view.plain"));
}

const KEYS = {
  n: next,
  b: back,
  e: () => focusFirst("errors"),
  c: () => focusFirst("text"),
  i: invert,
  v: () => $("image").focus(),
  p: () => openDialog("pause"),
  m: () => openDialog("menu"),
  o: showOverview,
  "?": () => openDialog("help"),
  0: () => viewer.reset(),
  "+": () => viewer.enlarge(1.25),
  "=": () => viewer.enlarge(1.25),
  "-": () => viewer.enlarge(0.8),
  "[": () => viewer.shadeTo(viewer.window - 10, viewer.level),
  "]": () => viewer.shadeTo(viewer.window + 10, viewer.level),
  "{": () => viewer.shadeTo(viewer.window, viewer.level - 5),
  "}": () => viewer.shadeTo(viewer.window, viewer.level + 5),
};
Object.assign(KEYS, { "<": KEYS["["], ">": KEYS["]"], ",": KEYS["{"], ".": KEYS["}"] });
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Answers by a letter of any question, or by a digit of the current one; true if it was one. */
function answerByKey(key) {
  const radios = [...document.querySelectorAll("fieldset:enabled input")];
  const isMeant = (radio) => /\D/.test(key) || radio.name === state.current;
  const radio = radios.find((r) => isMeant(r) && r.dataset.keys.split(" ").includes(key));
  if (radio) {
    radio.checked = true;
    answer(radio.name, radio.value);
    advance(radio.name);
    return true;
  }
  const errors = questions[state.current]?.kind === "errors" && !isRevealed();
  const code = errors && /^[1-9]$/.test(key) && questions[state.current].options[key - 1];
  if (code) startMarking(state.current, code);
  return Boolean(code);
}

/** Enter goes on and places, arrows move; buttons, texts and options keep their own keys. */
function steer(event) {
  const onImage = event.target === $("image");
  const onControl = event.target.closest("button, summary, a, input[type=range]");
  const arrow = ARROWS[event.key];
  if (event.key === "Escape" && state.marking) stopMarking();
  else if (arrow && state.marking && onImage) {
    const step = event.shiftKey ? NEAR / 5 : NEAR;
    moveCursor(arrow[0] * step, arrow[1] * step);
  } else if (arrow && (onImage || event.shiftKey)) viewer.pan(arrow[0] / 10, arrow[1] / 10);
  else if (event.key === " " && state.marking && onImage) place(viewer.cursor);
  else if (event.key === "Enter" && state.marking && onImage) place(viewer.cursor);
  else if (event.key === "Enter" && !onControl) next();
  else return false;
  return true;
}

function onKey(event) {
  const isAltGr = event.getModifierState("AltGraph");
  if ((event.ctrlKey || event.metaKey || event.altKey) && !isAltGr) return;
  const dialog = document.querySelector("dialog[open]");
  const isTyping = event.target.matches("textarea");
  if (isTyping && event.key === "Escape") $("next").focus();
  if (isTyping || $("reading").hidden) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (dialog) {
    if (dialog.id === "pause" && key === "p") closeDialogs();
    return;
  }
  if (key === "w") viewer.windowing = true;
  const isShortcut = state.hasKeys && (answerByKey(key) || (KEYS[key] && (KEYS[key](), true)));
  if (isShortcut || steer(event)) event.preventDefault();
}

function listen() {
  for (const type of ["pointermove", "pointerdown", "keydown", "wheel", "input"]) {
    document.addEventListener(type, touched, { capture: true, passive: true });
  }
  document.addEventListener("keydown", onKey);
  document.addEventListener("keyup", (event) => {
    if (event.key === "w") viewer.windowing = false;
  });
  document.addEventListener("visibilitychange", () => {
    setReading();
    if (document.visibilityState === "hidden") keepTime();
  });
  for (const type of ["focus", "blur"]) window.addEventListener(type, setReading);
  window.addEventListener("blur", () => {
    viewer.windowing = false; // the key is let go elsewhere
  });
  window.addEventListener("beforeunload", (event) => {
    const isLost = !store.works && !state.exported;
    if (isLost || store.waiting) event.preventDefault();
    keepTime();
  });
  window.addEventListener("storage", (event) => {
    const [id, other] = store.fromOtherTab(event) ?? [];
    if (!(other?.revision > (state.records[id]?.revision ?? 0))) return;
    state.records[id] = other;
    if (state.index >= 0 && item().id === id && !$("reading").hidden) showAnswers();
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", setReading);
  }
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => ACTIONS[button.dataset.do]());
  }
  for (const id of ["window", "level"]) {
    $(id).addEventListener("input", () => viewer.shadeTo(+$("window").value, +$("level").value));
  }
  $("file").addEventListener("change", () => {
    if ($("file").files.length) importFile($("file").files[0]);
    $("file").value = "";
  });
  $("keys").addEventListener("change", () => {
    state.hasKeys = $("keys").checked;
  });
}

/** Keeps the time of the item on the screen when the page may be closed. */
function keepTime() {
  if (!$("reading").hidden) keep();
}

const ACTIONS = {
  begin,
  next,
  back,
  invert,
  overview: showOverview,
  resume: begin,
  close: closeDialogs,
  pause: KEYS.p,
  menu: KEYS.m,
  help: KEYS["?"],
  reset: KEYS[0],
  larger: KEYS["+"],
  smaller: KEYS["-"],
  csv: () => exportAs("csv"),
  json: () => exportAs("json"),
  import: () => $("file").click(),
};

async function start() {
  buildQuestions();
  listen();
  $("bar").max = spec.items.length;
  $("keys").checked = true; // some browsers restore it on reload
  state.records = await store.open();
  showKept();
  showStart();
  const index = Math.max(0, firstOpen());
  await pictures.ask(index);
  pictures.around(state.index < 0 ? index : state.index);
}

start();
