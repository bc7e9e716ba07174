// SPDX-License-Identifier: MIT
// Pictures of every view, of a database where something goes on: node tests/web/shots.js DIRECTORY
// They are to be looked at; overview-light-1280.png, made small, is docs/images/dashboard.png.
import fs from 'node:fs';
import path from 'node:path';
import {Database, dashboard, end, open, until} from './harness.js';

process.on('uncaughtException', (e) => {
  console.error(e);
  end().finally(() => process.exit(1));
});
const out = process.argv[2];
if (!out) throw new Error('usage: shots.js DIRECTORY');
fs.mkdirSync(out, {recursive: true});

const HANDLER = `import json, random, sys, time
random.seed(7)
for line in sys.stdin:
    t = json.loads(line)
    if t['type'] == 'image.resize':
        n = random.randint(20, 60)
        for i in range(n):
            print(json.dumps({'progress': t['id'], 'count': i, 'total': n, 'note': 'tile %d' % i}), flush=True)
            time.sleep(0.4)
    else:
        time.sleep(random.random() * 0.08)
    r = random.random()
    if t['type'] == 'webhook.deliver' and r < 0.12:
        print(json.dumps({'retry': t['id'], 'error': 'HTTP 502 from hooks.example.org: upstream timed out'}), flush=True)
    elif t['type'] == 'email.invoice' and r < 0.02:
        print(json.dumps({'discard': t['id'], 'error': 'no such customer'}), flush=True)
    else:
        print(json.dumps({'done': t['id']}), flush=True)
`;

// A day's history as workers write it: a row a minute, queue and type.
function history(db) {
  const now = Math.floor(Date.now() / 60000);
  const kinds = [['mail', 'email.welcome', 180], ['mail', 'email.invoice', 60], ['images', 'image.resize', 22], ['hooks', 'webhook.deliver', 140], ['index', 'search.index', 90], ['reports', 'report.monthly', 1]];
  const hist = (bucket) => `x'${Buffer.from(Uint32Array.from({length: 26}, (_, i) => Math.round(100 * Math.exp(-((i - bucket) ** 2) / 3))).buffer).toString('hex').replace(/(00000000)+$/, '')}'`;
  const rows = [];
  for (let m = now - 1440; m < now; m++)
    for (const [i, [queue, type, n]] of kinds.entries()) {
      const wave = 1 + 0.45 * Math.sin((m % 1440) / 229) + 0.18 * Math.sin(m / 7.3 + i) + 0.1 * Math.sin(m * 1.7 + i);
      const done = Math.max(0, Math.round(n * wave));
      const bad = type === 'webhook.deliver' ? Math.round(done * (m > now - 6 ? 0.16 : 0.03)) : m % 9 === i ? 1 : 0;
      rows.push(`(${m * 60e6}, 1, '${queue}', '${type}', ${done}, ${bad}, ${bad > 4 && m % 3 === 0 ? 1 : 0}, ${done * 9e5}, ${done * 3e5}, ${hist(17)}, ${hist(14 + i)})`);
    }
  db.sql(`INSERT INTO nanoq_minutes (at, worker, queue, type, done, retried, dead, wait_us, run_us, wait_hist, run_hist) VALUES\n${rows.join(',\n')};`);
}

const db = new Database();
fs.writeFileSync(path.join(db.dir, 'handler.py'), HANDLER);
history(db);
const people = ['ada', 'grace', 'edsger', 'barbara', 'donald', 'frances', 'alan', 'hedy'];
const add = (n, make) => db.lines(Array.from({length: n}, (_, i) => ({unique: false, ...make(i)})));
const dead = add(18, (i) => ({type: i % 3 ? 'webhook.deliver' : 'email.invoice', queue: i % 3 ? 'hooks' : 'mail', max_retries: 0, payload: {url: `https://hooks.example.org/orders/${4200 + i}`, event: 'order.paid', attempt_key: 'k' + i, password: 'sesame'}, headers: {traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'}, tags: i % 4 ? [] : ['vip', 'eu']}));
db.failing('work', '--drain', '--quiet', '-q', 'hooks', '-q', 'mail', '--', 'sh', '-c', 'case $NANOQ_TYPE in email*) echo "no such customer: 4711" >&2; exit 65;; *) echo "HTTP 502 from hooks.example.org: upstream timed out" >&2; exit 1;; esac');
const done = add(3, (i) => ({type: 'report.monthly', queue: 'reports', keep: '1h', payload: {month: `2026-0${i + 7}`}}));
db.nanoq('work', '--drain', '--quiet', '--result', '-q', 'reports', '--', 'sh', '-c', 'printf "{\\"pages\\": 42, \\"sum\\": 1234567.80}"');
add(900, (i) => ({type: i % 3 ? 'email.welcome' : 'email.invoice', queue: 'mail', group: i % 5 ? undefined : String(40 + (i % 4)), payload: {to: `${people[i % 8]}@example.org`, template: 'spring', lang: i % 2 ? 'en' : 'de'}}));
add(300, (i) => ({type: 'webhook.deliver', queue: 'hooks', payload: {url: `https://hooks.example.org/orders/${5000 + i}`, event: 'order.paid'}}));
add(30, (i) => ({type: 'image.resize', queue: 'images', payload: {file: `uploads/${1000 + i}.jpg`, width: 1600}}));
add(60, (i) => ({type: 'search.index', queue: 'index', payload: {page: i}}));
add(12, (i) => ({type: 'email.reminder', queue: 'mail', in: `${i + 1}h`, payload: {to: `${people[i % 8]}@example.org`}, tags: ['campaign-7']}));
const cancelled = add(2, (i) => ({type: 'report.monthly', queue: 'reports', in: '2h', payload: {month: `2025-0${i + 1}`}}));
for (const id of cancelled) db.nanoq('cancel', String(id));
db.nanoq('limit', '--rate', '600/m', '--burst', '20', '--dead-to', 'graveyard', 'hooks');
db.nanoq('limit', '--running', '4', 'images');
db.nanoq('pause', 'index', '--why', 'the index is being rebuilt');
db.nanoq('cron', 'add', 'nightly-report', '30 2 * * *', 'report.monthly', '{"month": "last"}', '--zone', 'Europe/Berlin', '--queue', 'reports');
db.nanoq('cron', 'add', 'warm-cache', '@every 90s', 'search.index', '{"all": true}', '--queue', 'index');
db.nanoq('cron', 'add', 'invoices', '0 8 1 * *', 'email.invoice', '{}', '--queue', 'mail');
db.nanoq('cron', 'pause', 'invoices', '--why', 'new prices from December on');
const script = path.join(db.dir, 'handler.py');
db.work('-q', 'mail', '-q', 'hooks', '-j4', '--stream', '--', 'python3', script);
db.work('-q', 'images', '-q', 'reports', '-j6', '--stream', '--', 'python3', script);

const server = await dashboard(db, '--mask', 'password,token');
const views = [['overview', '#/overview'], ['overview-24h', '#/overview?window=24h'], ['tasks', '#/tasks'], ['tasks-dead', '#/tasks?state=dead&queue=hooks'], ['tasks-running', '#/tasks?state=running'], ['task-dead', `#/task/${dead[1]}`], ['task-done', `#/task/${done[0]}`], ['queues', '#/queues'], ['workers', '#/workers'], ['types', '#/types'], ['schedules', '#/schedules'], ['doctor', '#/doctor'], ['bulk', '#/bulk'], ['log', '#/log'], ['none', '#/nowhere']];

const first = await open(server.url);

await first.at('#/tasks?state=dead&type=email.invoice');
await first.click('.bulkbar [data-focus=retry]');
await first.waitForSelector(server.hasBulk ? 'dialog [data-would]' : 'dialog[open]');
await first.screenshot({path: path.join(out, 'dialog-bulk.png')});
if (server.hasBulk) {
  await first.fill('dialog input[type=number]', '3');
  await first.click('dialog button[type=submit]');
} else {
  await first.keyboard.press('Escape');
}
await first.waitForSelector('dialog', {state: 'detached'});
await first.at('#/overview');
await first.keyboard.press('?');
await first.waitForSelector('dialog[open]');
await first.screenshot({path: path.join(out, 'dialog-help.png')});
const seconds = Number(process.env.NANOQ_SHOTS_SECONDS ?? 25);
// Somebody looks on, and tasks go on coming.
for (let s = 0; s < seconds; s++) {
  const some = Math.round(7 + 5 * Math.sin(s / 19) + (s % 40 === 0 ? 60 : 0));
  add(some, (i) => ({type: i % 4 ? 'email.welcome' : 'webhook.deliver', queue: i % 4 ? 'mail' : 'hooks', payload: {to: `${people[i % 8]}@example.org`, n: s * 100 + i}}));
  if (s % 6 === 0) add(2, (i) => ({type: 'image.resize', queue: 'images', payload: {file: `uploads/${2000 + s + i}.jpg`, width: 1600}}));
  await new Promise((r) => setTimeout(r, 1000));
}
await first.context().close();
for (const [width, height] of [[1280, 800], [360, 740]])
  for (const colorScheme of ['light', 'dark']) {
    const page = await open(server.url, {viewport: {width, height}, colorScheme});
    for (const [name, hash] of views) {
      await page.at(hash);
      await until('live', () => page.locator('#status.is-live').count());
      await page.waitForTimeout(400);
      await page.screenshot({path: path.join(out, `${name}-${colorScheme}-${width}.png`), fullPage: !(name === 'overview' && width === 1280)});
    }
    for (const fault of page.faults) console.log(colorScheme, width, fault);
    await page.context().close();
  }
const paper = await open(server.url);
await paper.at('#/overview');
await paper.waitForTimeout(600);
await paper.pdf({path: path.join(out, 'overview.pdf'), format: 'A4', printBackground: true});
await end();
