// SPDX-License-Identifier: MIT
// graphile-worker, one piece of work a process: graphile.js fill|drain|enqueue|batch|pickup AMOUNT [PRODUCERS]
// Prints one JSON object. PGHOST, PGPORT, PGUSER, PGDATABASE say where; NODE_PATH has the packages.
"use strict";
const { Pool } = require("pg");
const { run, makeWorkerUtils, Logger } = require("graphile-worker");
const { Starts, payload, percentiles, produce, pause } = require("./common.js");

const quiet = new Logger(() => () => {});
const connect = (max) => new Pool({ max });

// What drains fastest, by the project's own performance notes: a local queue, no delay of completions.
const worker = (pgPool, taskList, localQueue) =>
  run({
    pgPool, taskList, logger: quiet, noHandleSignals: true,
    preset: { worker: { concurrentJobs: 24, maxPoolSize: 25, pollInterval: 2000,
      ...(localQueue ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {}) } },
  });

const specs = (n, from) => Array.from({ length: n }, (_, i) => ({ identifier: "bench", payload: payload(from + i) }));

const work = {
  async fill(n) {
    const pgPool = connect(4), utils = await makeWorkerUtils({ pgPool, logger: quiet });
    await utils.migrate();
    for (let at = 0; at < n; at += 1000) await utils.addJobs(specs(Math.min(1000, n - at), at));
    await utils.release();
    await pgPool.end();
    return {};
  },
  async drain(n) {
    const pgPool = connect(25);
    let done = 0, all;
    const ended = new Promise((resolve) => (all = resolve));
    const start = process.hrtime.bigint();
    const runner = await worker(pgPool, { bench: async () => { if (++done === n) all(); } }, true);
    await ended;
    await runner.stop(); // the completions are written
    const seconds = Number(process.hrtime.bigint() - start) / 1e9;
    const rss = process.memoryUsage().rss / 1e6;
    const left = await pgPool.query("select count(*)::int as n from graphile_worker._private_jobs");
    await pgPool.end();
    return { rate: n / seconds, rss, left: left.rows[0].n };
  },
  async enqueue(seconds, producers) {
    const pgPool = connect(producers), utils = await makeWorkerUtils({ pgPool, logger: quiet });
    await utils.migrate();
    const rate = await produce(seconds, producers, 1, (i) => utils.addJob("bench", payload(i)));
    await utils.release();
    await pgPool.query("delete from graphile_worker._private_jobs");
    await pgPool.end();
    return { rate };
  },
  async batch(seconds) {
    const pgPool = connect(1), utils = await makeWorkerUtils({ pgPool, logger: quiet });
    await utils.migrate();
    const rate = await produce(seconds, 1, 100, (i) => utils.addJobs(specs(100, i)));
    await utils.release();
    await pgPool.query("delete from graphile_worker._private_jobs");
    await pgPool.end();
    return { rate };
  },
  async pickup(n) {
    const pgPool = connect(25), utils = await makeWorkerUtils({ pgPool, logger: quiet });
    await utils.migrate();
    const starts = new Starts(), ms = [];
    const runner = await worker(pgPool, { bench: async (p) => starts.begun(p.n) }, false);
    for (let i = 0; i < n; i++) {
      await pause(20 + Math.random() * 30);
      await utils.addJob("bench", payload(i));
      const committed = process.hrtime.bigint();
      ms.push(Math.max(0, Number((await starts.wait(i)) - committed) / 1e6));
    }
    await runner.stop();
    await utils.release();
    await pgPool.end();
    return percentiles(ms);
  },
};

const [what, amount, producers] = process.argv.slice(2);
work[what](Number(amount), Number(producers || 1)).then(
  (out) => { console.log(JSON.stringify(out)); process.exit(0); },
  (error) => { console.error(error); process.exit(1); });
