// Saves answers on this computer.
"use strict";

/**
 * Every record goes to IndexedDB, which is on the disk once a transaction is complete (localStorage
 * is written seconds later and loses them when a browser is killed), and to localStorage, for
 * browsers without the first. Pages opened as files share both, so keys carry study and kit.
 */
class Store {
  constructor(spec, onchange) {
    this.prefix = `xraysynth-review:${spec.study}:${spec.kit}:`;
    this.onchange = onchange;
    this.database = null;
    this.waiting = 0;
    this.works = true;
  }

  /** Opens what is there and returns the records by item id, the latest of either place. */
  async open() {
    const late = new Promise((resolve) => setTimeout(resolve, 10_000, null));
    this.database = await Promise.race([openDatabase().catch(() => null), late]);
    const onDisk = await this.disk().catch(() => []);
    const records = {};
    for (const [key, text] of [...onDisk, ...this.local()]) {
      const item = key.slice(this.prefix.length);
      const record = JSON.parse(text);
      if (record.revision > (records[item]?.revision ?? 0)) records[item] = record;
    }
    await this.catchUp(records, new Map(onDisk));
    this.works = this.database !== null || this.putLocal("probe", '{"revision":0}');
    return records;
  }

  /**
   * Writes to the disk what localStorage alone has: a page that is left while it writes loses the
   * transaction, and localStorage loses its last seconds when the browser is killed afterwards.
   */
  async catchUp(records, onDisk) {
    if (!this.database) return;
    const late = Object.entries(records).filter(([item, record]) => {
      const text = onDisk.get(this.prefix + item);
      return !text || JSON.parse(text).revision < record.revision;
    });
    const writes = late.map(([item, record]) => this.putDisk(item, JSON.stringify(record)));
    await Promise.all(writes).catch(() => null);
  }

  local() {
    try {
      const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.prefix));
      return keys.map((key) => [key, localStorage.getItem(key)]);
    } catch {
      return [];
    }
  }

  async disk() {
    if (!this.database) return [];
    const range = IDBKeyRange.bound(this.prefix, `${this.prefix}\uffff`);
    const answers = this.database.transaction("answers").objectStore("answers");
    const [keys, texts] = await Promise.all([
      finished(answers.getAllKeys(range)),
      finished(answers.getAll(range)),
    ]);
    return keys.map((key, i) => [key, texts[i]]);
  }

  /** Keeps a record at once; `onchange` is called when it is kept, or cannot be. */
  async put(item, record) {
    record.revision += 1;
    const text = JSON.stringify(record);
    const isLocal = this.putLocal(item, text);
    this.waiting += 1;
    this.onchange();
    const isOnDisk = await this.putDisk(item, text).then(() => true, () => false);
    this.waiting -= 1;
    this.works = isLocal || isOnDisk;
    this.onchange();
  }

  putLocal(item, text) {
    try {
      localStorage.setItem(this.prefix + item, text);
      return true;
    } catch {
      return false;
    }
  }

  putDisk(item, text) {
    return new Promise((resolve, reject) => {
      const write = this.database.transaction("answers", "readwrite", { durability: "strict" });
      write.objectStore("answers").put(text, this.prefix + item);
      write.oncomplete = resolve;
      write.onabort = reject;
    });
  }

  /** The item and record that another tab with this kit has just kept, or null. */
  fromOtherTab(event) {
    if (!event.key?.startsWith(this.prefix) || !event.newValue) return null;
    return [event.key.slice(this.prefix.length), JSON.parse(event.newValue)];
  }
}

function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function openDatabase() {
  const request = indexedDB.open("xraysynth-review", 1);
  request.onupgradeneeded = () => request.result.createObjectStore("answers");
  return finished(request);
}
