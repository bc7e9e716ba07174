// SPDX-License-Identifier: MIT
// BullMQ, one piece of work a process: bullmq.js fill|drain|enqueue|batch|pickup AMOUNT [PRODUCERS]
// Prints one JSON object. REDIS_SOCKET says where; BULLMQ_CONCURRENCY: of the worker; NODE_PATH has the packages.
"use strict";
const { Queue, Worker } = require("bullmq");
const { Starts, payload, percentiles, produce, pause } = require("./common.js");

const connection = { path: process.env.REDIS_SOCKET, maxRetriesPerRequest: null };
const concurrency = Number(process.env.BULLMQ_CONCURRENCY || 500);
const options = { removeOnComplete: true, attempts: 3 };
const open = () => new Queue("bench", { connection });
const specs = (n, from) => Array.from({ length: n }, (_, i) => ({ name: "bench", data: payload(from + i), opts: options }));

const work = {
  async fill(n) {
    const queue = open();
    for (let at = 0; at < n; at += 1000) await queue.addBulk(specs(Math.min(1000, n - at), at));
    await queue.close();
    return {};
  },
  async drain(n) {
    let done = 0, all;
    const ended = new Promise((resolve) => (all = resolve));
    const start = process.hrtime.bigint();
    const worker = new Worker("bench", async () => {}, { connection, concurrency });
    worker.on("completed", () => { if (++done === n) all(); });
    await ended;
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const rss = process.memoryUsage().rss / 1e6;
    await worker.close();
    const queue = open(), counts = await queue.getJobCounts("wait", "active", "failed", "delayed");
    await queue.close();
    return { rate: n / seconds, rss, left: Object.values(counts).reduce((a, b) => a + b, 0) };
  },
  async enqueue(seconds, producers) {
    const queues = Array.from({ length: producers }, open); // a connection each
    let turn = 0;
    const rate = await produce(seconds, producers, 1, (i) => queues[turn++ % producers].add("bench", payload(i), options));
    await queues[0].obliterate({ force: true });
    await Promise.all(queues.map((q) => q.close()));
    return { rate };
  },
  async batch(seconds) {
    const queue = open();
    const rate = await produce(seconds, 1, 100, (i) => queue.addBulk(specs(100, i)));
    await queue.obliterate({ force: true });
    await queue.close();
    return { rate };
  },
  async pickup(n) {
    const queue = open(), starts = new Starts(), ms = [];
    const worker = new Worker("bench", async (job) => starts.begun(job.data.n),
      { connection, concurrency });
    await worker.waitUntilReady();
    for (let i = 0; i < n; i++) {
      await pause(20 + Math.random() * 30);
      await queue.add("bench", payload(i), options);
      const committed = process.hrtime.bigint();
      ms.push(Math.max(0, Number((await starts.wait(i)) - committed) / 1e6));
    }
    await worker.close();
    await queue.close();
    return percentiles(ms);
  },
};

const [what, amount, producers] = process.argv.slice(2);
work[what](Number(amount), Number(producers || 1)).then(
  (out) => { console.log(JSON.stringify(out)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); });
