// Exports answers as a table of strings with a checksum per row, as CSV or JSON, and imports them.
"use strict";

const FORMAT = "xraysynth-review/1";
const KNOWN = ["origin", "confidence", "diagnosis", "quality", "realism", "errors", "comment"];
const RADIO = ["choice", "scale"];

/** Columns of an export; questions that the study added come after the known ones. */
function columns(spec) {
  const ownQuestions = spec.questions.map((q) => q.id).filter((id) => !KNOWN.includes(id));
  const leading = ["format", "study", "kit", "reader", "session", "item", "position", "calibration"];
  const trailing = ["seconds", "changes", "answered_at", "answered", "of", "check"];
  return [...leading, ...KNOWN, ...ownQuestions, ...trailing];
}

function emptyRecord() {
  return { values: {}, seconds: 0, changes: 0, answeredAt: "", left: false, revision: 0 };
}

function hasValue(question, record) {
  const value = record.values[question.id];
  return question.kind === "text" ? tidy(value ?? "") !== "" : value !== undefined;
}

/** Required questions without an answer; no error marked is an answer. */
function missing(spec, record) {
  const asked = spec.questions.filter((q) => q.required && q.kind !== "errors");
  return asked.filter((q) => !hasValue(q, record));
}

/** Whether a record is a row of the export: nothing missing, and something answered or confirmed. */
function isAnswered(spec, record) {
  if (!record || missing(spec, record).length) return false;
  return record.left || spec.questions.some((q) => q.required && hasValue(q, record));
}

/** Line ends as \n, no control characters, no lone halves of characters. */
function tidy(text) {
  const lines = text.replace(/\r\n?/g, "\n").replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, " ");
  return new TextDecoder().decode(new TextEncoder().encode(lines)).trim();
}

/** Free text that a spreadsheet would take for a formula begins with an apostrophe. */
function guarded(text) {
  return /^[=+\-@]/.test(text) ? `'${text}` : text;
}

function cell(question, value) {
  if (value === undefined) return "";
  if (question.kind === "text") return guarded(tidy(value));
  if (question.kind !== "errors") return value;
  return value.map((m) => `${m.code}@${m.x.toFixed(4)},${m.y.toFixed(4)}`).join(";");
}

function value(question, text) {
  if (question.kind === "text") return text.replace(/^'(?=[=+\-@])/, "");
  if (question.kind !== "errors") return text || undefined;
  return text.split(";").filter(Boolean).map((mark) => {
    const [code, x, y] = mark.split(/[@,]/);
    return { code, x: Number(x), y: Number(y) };
  });
}

function check(cells) {
  return sha256(cells.join("\x1f")).slice(0, 16);
}

/** One row per answered item, in the order of the kit. */
function rows(spec, records) {
  const answered = spec.items.filter((item) => isAnswered(spec, records[item.id]));
  const facts = { format: FORMAT, study: spec.study, kit: spec.kit, reader: spec.reader };
  Object.assign(facts, { session: spec.session, answered: answered.length, of: spec.items.length });
  return answered.map((item) => {
    const record = records[item.id];
    const row = { ...facts, item: item.id, position: spec.items.indexOf(item) + 1 };
    row.calibration = item.calibration ? 1 : 0;
    for (const q of spec.questions) row[q.id] = cell(q, record.values[q.id]);
    row.seconds = record.seconds.toFixed(1);
    Object.assign(row, { changes: record.changes, answered_at: record.answeredAt });
    const cells = columns(spec).slice(0, -1).map((name) => String(row[name] ?? ""));
    return [...cells, check(cells)];
  });
}

function toJson(spec, records) {
  return JSON.stringify({ format: FORMAT, columns: columns(spec), rows: rows(spec, records) });
}

/** RFC 4180 with a byte order mark, which spreadsheets need to see UTF-8. */
function toCsv(spec, records) {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = [columns(spec), ...rows(spec, records)].map((row) => row.map(quoted).join(","));
  return `\ufeff${lines.join("\r\n")}\r\n`;
}

function fileName(spec, records, ending) {
  const slug = spec.title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  const part = `${rows(spec, records).length}of${spec.items.length}`;
  return `${slug || "review"}_${spec.reader}_session${spec.session}_${part}.${ending}`;
}

/** Why an export cannot be continued; `key` names its text. */
class ExportError extends Error {
  constructor(key, values = {}) {
    super(key);
    Object.assign(this, { key, values });
  }
}

function fromCsv(text) {
  const table = [[]];
  const cells = /("(?:[^"]|"")*"|[^",\r\n]*)(,|\r?\n|$)/gy;
  while (cells.lastIndex < text.length) {
    const match = cells.exec(text);
    if (!match) throw new ExportError("import.unreadable");
    const isQuoted = match[1].startsWith('"');
    const plain = isQuoted ? match[1].slice(1, -1).replaceAll('""', '"') : match[1];
    table[table.length - 1].push(plain);
    if (match[2] !== "," && cells.lastIndex < text.length) table.push([]);
  }
  return { columns: table[0], rows: table.slice(1) };
}

/** `[item id, record]` of every row of an export of this kit; anything else is an `ExportError`. */
function readExport(spec, text) {
  const plain = text.replace(/^\ufeff/, "");
  let table;
  try {
    table = plain.trimStart().startsWith("{") ? JSON.parse(plain) : fromCsv(plain);
  } catch {
    throw new ExportError("import.unreadable");
  }
  const names = columns(spec);
  const isExport = Array.isArray(table?.columns) && Array.isArray(table?.rows);
  if (!isExport || table.columns[0] !== "format" || !table.rows.length) {
    throw new ExportError("import.unreadable");
  }
  return table.rows.map((cells, index) => fromRow(spec, names, table, cells, index));
}

function fromRow(spec, names, table, cells, index) {
  const damaged = new ExportError("import.damaged", { row: index + 1 });
  const isText = Array.isArray(cells) && cells.every((c) => typeof c === "string");
  if (!isText || cells.length !== table.columns.length) throw damaged;
  const row = Object.fromEntries(table.columns.map((name, i) => [name, cells[i]]));
  if (row.study !== spec.study || row.kit !== spec.kit) throw new ExportError("import.other");
  const isSame = names.join() === table.columns.join() && row.format === FORMAT;
  const at = names.indexOf("item");
  const isOnce = table.rows.filter((other) => other[at] === cells[at]).length === 1;
  const isSound = check(cells.slice(0, -1)) === row.check && isOnce;
  if (!isSame || !isSound || !spec.items.some((i) => i.id === row.item)) throw damaged;
  if (Number(row.answered) !== table.rows.length) {
    throw new ExportError("import.incomplete", { rows: table.rows.length, answered: row.answered });
  }
  const values = {};
  for (const q of spec.questions) values[q.id] = value(q, row[q.id]);
  const times = { seconds: Number(row.seconds), answeredAt: row.answered_at };
  return [row.item, { ...emptyRecord(), values, ...times, changes: Number(row.changes), left: true }];
}

// First 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4).
const ROUND = [];
for (let n = 2; ROUND.length < 64; n += 1) {
  let prime = true;
  for (let d = 2; d * d <= n; d += 1) prime = prime && n % d !== 0;
  if (prime) ROUND.push((Math.cbrt(n) * 2 ** 32) | 0);
}

/** SHA-256 of a text in UTF-8, in hex; crypto.subtle is not there for every page opened as a file. */
function sha256(text) {
  const bytes = new TextEncoder().encode(text);
  const length = (((bytes.length + 8) >> 6) + 1) * 64;
  const data = new DataView(new ArrayBuffer(length));
  bytes.forEach((byte, i) => data.setUint8(i, byte));
  data.setUint8(bytes.length, 0x80);
  data.setUint32(length - 8, Math.floor(bytes.length / 2 ** 29));
  data.setUint32(length - 4, (bytes.length * 8) >>> 0);
  const hash = new Int32Array([
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
  ]);
  for (let start = 0; start < length; start += 64) compress(hash, data, start);
  return Array.from(hash, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

function compress(hash, data, start) {
  const turn = (x, n) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let i = 0; i < 64; i += 1) {
    if (i < 16) {
      w[i] = data.getInt32(start + 4 * i);
      continue;
    }
    const early = turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ (w[i - 15] >>> 3);
    const late = turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ (w[i - 2] >>> 10);
    w[i] = w[i - 16] + early + w[i - 7] + late;
  }
  let [a, b, c, d, e, f, g, h] = hash;
  for (let i = 0; i < 64; i += 1) {
    const chosen = (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g));
    const first = (h + chosen + ROUND[i] + w[i]) | 0;
    const second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => {
    hash[i] += word;
  });
}
