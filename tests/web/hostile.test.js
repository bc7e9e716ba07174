// SPDX-License-Identifier: MIT
// Whoever may write into the database writes what they like, into every field: it is shown as text, and nothing of it runs.
import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {VIEWS, Database, clean, dashboard, end, launch, open, settled, until} from './harness.js';

const RUN = 'window.pwned=1;alert(1)';
const HOSTILE = [
  `<script>${RUN}</script>`,
  `<img src=x onerror="${RUN}">`,
  `<svg onload="${RUN}">`,
  `"><svg/onload=${RUN}>`,
  `'><img src=x onerror=${RUN}>`,
  `javascript:${RUN}`,
  `" autofocus onfocus="${RUN}" x="`,
  `' onmouseover='${RUN}' x='`,
  `</title><script>${RUN}</script>`,
  `</textarea><script>${RUN}</script>`,
  `</style><script>${RUN}</script>`,
  `--><script>${RUN}</script><!--`,
  `<iframe srcdoc="<script>parent.pwned=1</script>">`,
  `<object data="javascript:${RUN}">`,
  `<a href="javascript:${RUN}">x</a>`,
  `<math><mi xlink:href="javascript:${RUN}">`,
  `<details open ontoggle="${RUN}">`,
  `<base href="http://evil.example/">`,
  `<meta http-equiv="refresh" content="0;url=http://evil.example/">`,
  `<link rel=stylesheet href=http://evil.example/x.css>`,
  `<form action=http://evil.example><button>x</button></form>`,
  `{{constructor.constructor('${RUN}')()}}`,
  '${' + RUN + '}',
  `#/tasks?x=<img src=x onerror=${RUN}>`,
  '\u202egnp.exe\u2066\u200b\u200f',
  '\u001b[31mred\u001b[0m\u0000\u0007\u007f\u009b',
  'data: {"totals":{"dead":1}}\n\nevent: down\ndata: {}\n\n',
  '__proto__',
  '\ud83d\udca9'.repeat(20) + '\u0301'.repeat(40),
  'x'.repeat(240),
];
const NAME = /[^A-Za-z0-9_.:/-]/g;

let db, server, ids;
before(async () => {
  db = new Database();
  // By SQL alone, with the checks off, as somebody does who may do everything: one task of each, in each state.
  const hex = (s) => `x'${Buffer.from(s, 'utf8').toString('hex')}'`;
  const text = (s) => `CAST(${hex(s.replaceAll('\0', ''))} AS TEXT)`;
  const now = Date.now() * 1000;
  const out = ['PRAGMA ignore_check_constraints = ON; BEGIN IMMEDIATE;'];
  ids = [];
  HOSTILE.forEach((s, i) => {
    const headers = text(JSON.stringify({[s]: s, traceparent: s}));
    const queue = text(s.replace(NAME, '').slice(0, 60) || 'default');
    const live = 1000 + i;
    const running = 2000 + i;
    const dead = 3000 + i;
    const done = 4000 + i;
    ids.push(live, running, dead, done);
    out.push(`INSERT INTO nanoq_tasks (id, queue, type, payload, error, headers) VALUES (${live}, ${i % 2 ? queue : text(s)}, ${text(s)}, ${hex(s)}, ${hex(s)}, ${headers});`);
    out.push(`INSERT INTO nanoq_tasks (id, queue, state, lease, claimed_at, type, payload, error, headers) VALUES (${running}, ${queue}, 1, ${(i % 3 + 1) * 4194304 + i}, ${now}, ${text(s)}, ${hex(JSON.stringify({k: s, [s]: [s]}))}, ${hex(s)}, ${headers});`);
    out.push(`INSERT INTO nanoq_progress (task_id, lease, done, total, note, told_at) VALUES (${running}, ${(i % 3 + 1) * 4194304 + i}, 1, 2, ${hex(s)}, ${now});`);
    for (const [id, state] of [[dead, 3], [done, 2]])
      out.push(`INSERT INTO nanoq_finished (id, queue, state, priority, run_at, generation, attempts, crashes, max_retries, timeout_ms, created_at, finished_at, type, payload, error, headers) VALUES (${id}, ${text(s)}, ${state}, 0, ${now}, 1, 1, 0, 1, 60000, ${now - 5e6}, ${now}, ${text(s)}, ${hex(s)}, ${hex(s)}, ${headers});`);
    out.push(`INSERT INTO nanoq_attempts (task_id, generation, outcome, attempt, started_at, worker, error) VALUES (${dead}, 1, 2, 1, ${now}, ${text(s)}, ${hex(s)});`);
    out.push(`INSERT INTO nanoq_results (task_id, result, keep_until) VALUES (${done}, ${hex(s)}, ${now + 1e12});`);
    for (const id of [live, dead]) out.push(`INSERT OR IGNORE INTO nanoq_tags (tag, task_id) VALUES (${text(s)}, ${id});`);
    out.push(`INSERT INTO nanoq_logs (task_id, generation, seq, at, level, line) VALUES (${dead}, 1, 1, ${now}, 1, ${hex(s)});`);
    out.push(`INSERT OR REPLACE INTO nanoq_queues (name, paused_at, paused_why, dead_to) VALUES (${text(s)}, ${now}, ${text(s)}, ${text(s)});`);
    out.push(`INSERT INTO nanoq_workers (name, started_at, beat_at, queues, types, concurrency, running, version) VALUES (${text(s)}, ${now}, ${now}, ${hex(s)}, ${hex(s)}, 2, 1, ${text(s)});`);
    out.push(`INSERT INTO nanoq_schedules (name, spec, zone, queue, type, payload, paused_at, paused_why, source, error) VALUES (${text(s)}, ${text(s)}, ${text(s)}, ${queue}, ${text(s)}, ${hex(s)}, ${i % 2 ? now : 'NULL'}, ${text(s)}, ${text(s)}, ${i % 3 ? 'NULL' : text(s)});`);
    out.push(`INSERT OR REPLACE INTO nanoq_firings (name, due_at, task_id) VALUES (${text(s)}, ${now}, ${dead});`);
    out.push(`INSERT OR REPLACE INTO nanoq_minutes (at, worker, queue, type, done, dead) VALUES (${Math.floor(now / 6e7) * 6e7}, 1, ${text(s)}, ${text(s)}, 3, 1);`);
  });
  out.push('COMMIT;');
  db.sql(out.join('\n'));
  server = await dashboard(db, '--mask', 'password');
});
after(end);

// No element, handler or address that we did not make.
async function sound(page, where) {
  const bad = await page.evaluate(() => {
    const out = [];
    if (window.pwned) out.push('it ran');
    const allowed = ['theme.js', 'main.js'];
    for (const e of document.querySelectorAll('*')) {
      const name = e.localName;
      if (['iframe', 'object', 'embed', 'img', 'math', 'base', 'style'].includes(name)) out.push(name);
      if (name === 'script' && !allowed.includes(e.getAttribute('src'))) out.push('script');
      if (name === 'link' && !['style.css', 'uplot.css', 'data:,'].includes(e.getAttribute('href'))) out.push('link');
      if (name === 'a' && !e.getAttribute('href')?.startsWith('#')) out.push(`href ${e.getAttribute('href')}`);
      for (const a of e.attributes) if (a.name.startsWith('on')) out.push(a.name);
    }
    return out;
  });
  assert.deepEqual(bad, [], where);
}

test('every view, with hostile text in every field', async () => {
  assert.equal(HOSTILE.length, 30);
  const page = await open(server.url);
  for (const hash of [...VIEWS.map((v) => `#/${v}`), ...['waiting', 'running', 'dead', 'done'].map((s) => `#/tasks?state=${s}`), '#/overview?window=24h', '#/types?window=24h']) {
    await page.at(hash);
    await until(`${hash} is live`, () => page.locator('#status.is-live').count());
    await sound(page, hash);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)) <= 0, `${hash} is too wide`);
  }
  await page.at('#/tasks?state=dead');
  const shown = await page.textContent('main');
  for (const s of HOSTILE.slice(0, 24)) assert.ok(shown.includes(s), `not shown: ${s}`);
  assert.ok(shown.includes('\\u202egnp.exe'), 'what turns the text around is shown as what it is');
  await clean(page);
  await page.context().close();
});

test('every task of these', async () => {
  const page = await open(server.url, {viewport: {width: 360, height: 700}});
  for (const id of ids) {
    await page.goto(`${server.url}#/task/${id}`);
    await page.waitForFunction((want) => document.querySelector('main h1')?.textContent.includes(want) && !document.querySelector('.loading') && document.querySelector('.task-head'), String(id), {timeout: 15000});
    await sound(page, `task ${id}`);
  }
  await clean(page);
  await page.context().close();
});

test('filters, addresses and dialogs', async () => {
  const page = await open(server.url);
  for (const s of HOSTILE) {
    await page.goto(`${server.url}#/tasks?${new URLSearchParams({type: s.slice(0, 200), queue: s.slice(0, 60), error: s.slice(0, 200), x: s})}`);
    await settled(page);
    await sound(page, s);
    await page.goto(`${server.url}#/${encodeURIComponent(s)}`);
    await page.waitForSelector('main h1');
    await sound(page, s);
    await page.goto(`${server.url}#/task/${encodeURIComponent(s)}`);
    await settled(page);
    await sound(page, s);
  }
  await page.at('#/schedules');
  const names = await page.locator('tbody [data-focus=open]').count();
  assert.ok(names > 20, `only ${names} schedules`);
  for (let i = 0; i < names; i++) {
    await page.locator('tbody [data-focus=open]').nth(i).click();
    await page.waitForSelector('dialog[open]');
    await sound(page, `schedule ${i}`);
    await page.keyboard.press('Escape');
    await page.waitForSelector('dialog', {state: 'detached'});
  }
  await page.at('#/queues');
  for (const name of ['pause', 'limits']) {
    const all = page.locator(`tbody [data-focus=${name}]`);
    for (let i = 0; i < Math.min(6, await all.count()); i++) {
      if (/Resume/.test(await all.nth(i).textContent())) continue;
      await all.nth(i).click();
      await page.waitForSelector('dialog[open]');
      await sound(page, name);
      await page.keyboard.press('Escape');
      await page.waitForSelector('dialog', {state: 'detached'});
    }
  }
  // Some of these addresses are refused, which the console notes; nothing else may be there.
  await clean(page, (f) => /status of 40[04]/.test(f));
  await page.context().close();
});

test('the policy is in force: what it forbids does not run', async () => {
  const page = await (await launch()).newPage();
  await page.goto(server.url);
  const directives = ['script-src-elem', 'style-src-attr', 'frame-src', 'connect-src'];
  const blocked = await page.evaluate((wanted) => new Promise((resolve) => {
    const seen = [];
    const done = () => resolve({seen, ran: window.pwned === 1});
    document.addEventListener('securitypolicyviolation', (e) => {
      seen.push(e.effectiveDirective);
      if (wanted.every((directive) => seen.includes(directive))) done();
    });
    const script = document.createElement('script');
    script.textContent = 'window.pwned = 1';
    document.body.append(script);
    const style = document.createElement('div');
    style.setAttribute('style', 'color: red');
    document.body.append(style);
    const frame = document.createElement('iframe');
    frame.src = 'https://example.invalid/';
    document.body.append(frame);
    fetch('https://example.invalid/').catch(() => {});
    setTimeout(done, 20_000);
  }), directives);
  assert.equal(blocked.ran, false);
  for (const directive of directives) assert.ok(blocked.seen.includes(directive), `${directive} is not enforced: ${blocked.seen}`);
  await page.close();
});
