// SPDX-License-Identifier: MIT
// What the peers' programs share: payloads as nanoq's benchmark has them, producers, percentiles.
"use strict";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// About 100 bytes of JSON.
const payload = (n) => ({ n, text: "x".repeat(80) });

// Tasks that were started: begun(n) by the handler, then wait(n) answers when that was.
class Starts {
  constructor() { this.at = new Map(); this.waits = new Map(); }
  begun(n) {
    this.at.set(n, process.hrtime.bigint());
    this.waits.get(n)?.();
  }
  async wait(n) {
    if (!this.at.has(n)) {
      await new Promise((resolve, reject) => {
        const late = setTimeout(() => reject(new Error("a task was not started within 10 s")), 10000);
        this.waits.set(n, () => { clearTimeout(late); resolve(); });
      });
    }
    return this.at.get(n);
  }
}

// So many producers, each one call after the other, for so long; tasks a second.
async function produce(seconds, producers, each, call) {
  let next = 0;
  const start = process.hrtime.bigint(), end = Date.now() + seconds * 1000;
  await Promise.all(Array.from({ length: producers }, async () => {
    while (Date.now() < end) {
      const at = next;
      next += each;
      await call(at);
    }
  }));
  return next / (Number(process.hrtime.bigint() - start) / 1e9);
}

function percentiles(ms) {
  ms.sort((a, b) => a - b);
  const at = (p) => ms[Math.min(ms.length - 1, Math.floor(ms.length * p))];
  return { p50: at(0.5), p99: at(0.99) };
}

module.exports = { pause, payload, Starts, produce, percentiles };
