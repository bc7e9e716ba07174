// SPDX-License-Identifier: MIT
// Every view: it shows what is in the database, in light and dark, wide and narrow, and axe finds nothing.
import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {VIEWS, Database, axe, clean, dashboard, end, open, seed, settled, until} from './harness.js';

let db, ids, server;
before(async () => {
  db = new Database();
  ids = seed(db);
  db.work('-q', 'slow', '--', 'sleep', '30');
  db.nanoq('add', '--queue', 'slow', 'sleep', '1');
  server = await dashboard(db, '--mask', 'password,token');
});
after(end);

const text = async (page) => (await page.textContent('main')).replace(/\s+/g, ' ');

test('each view without a fault, in light and dark, at 1280 and 360 pixels', async () => {
  for (const [width, colorScheme] of [[1280, 'light'], [1280, 'dark'], [360, 'light'], [360, 'dark']]) {
    const page = await open(server.url, {viewport: {width, height: 740}, colorScheme});
    for (const hash of [...VIEWS.map((v) => `#/${v}`), `#/task/${ids.dead}`, `#/task/${ids.done}`, `#/task/${ids.waiting}`, '#/nowhere', '#/task/999999']) {
      await page.at(hash);
      await until(`${hash} is live`, () => page.locator('#status.is-live').count());
      assert.deepEqual(await axe(page), [], `${hash} ${colorScheme} ${width}`);
      assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)) <= 0, `${hash} is wider than ${width}`);
    }
    await clean(page, (f) => f.includes('404'));
    await page.context().close();
  }
});

test('dialogs and the sign of a missing database have no faults of access either', async () => {
  for (const colorScheme of ['light', 'dark']) {
    const page = await open(server.url, {colorScheme});
    await page.at('#/tasks');
    await page.keyboard.press('?');
    await page.waitForSelector('dialog[open]');
    assert.deepEqual(await axe(page), []);
    await page.keyboard.press('Escape');
    await page.click('.bulkbar [data-focus=move]');
    await page.waitForSelector(server.hasBulk ? 'dialog[open] [data-would]' : 'dialog[open]');
    assert.deepEqual(await axe(page), []);
    await page.keyboard.press('Escape');
    await page.at('#/queues');
    await page.click('tr[data-key^="images"] [data-focus=limits]');
    await page.waitForSelector('dialog[open]');
    assert.deepEqual(await axe(page), []);
    await clean(page);
    await page.context().close();
  }
});

test('the overview says how many are due and dead, and links to them', async () => {
  const page = await open(server.url);
  await page.at('#/overview');
  await until('the dead are counted', async () => (await page.textContent('[data-tile=dead] .value')) === '5');
  await until('queues are listed', () => page.locator('tr[data-key=index]').count());
  assert.match(await page.textContent('tr[data-key=index]'), /130/);
  assert.match(await page.textContent('tr[data-key=index]'), /paused/);
  await page.click('a[data-window="24h"]');
  await until('the time is in the address', () => page.url().endsWith('window=24h'));
  await settled(page);
  await page.reload();
  await settled(page);
  assert.equal(await page.getAttribute('a[data-window="24h"]', 'aria-current'), 'true');
  await page.locator('figure summary').first().click();
  await until('a chart is a table too', () => page.locator('figure tbody tr').count());
  await page.click('[data-tile=dead]');
  await until('the dead are shown', () => page.locator(`tr[data-key="${ids.dead}"]`).count());
  await clean(page);
  await page.context().close();
});

test('a task shows its payload, headers, attempts, result, and why', async () => {
  const page = await open(server.url);
  await page.at(`#/task/${ids.dead}`);
  assert.match(await text(page), /webhook\.deliver/);
  assert.match(await text(page), /traceparent/);
  assert.match(await text(page), /How it ended/);
  assert.match(await page.textContent('[data-content=payload]'), /^\{\n {2}"to": "https:\/\/example\.org\/a",\n {2}"n": 1\n\}$/);
  await page.click('[data-way=hex]');
  assert.match(await page.textContent('[data-content=payload]'), /^00000000 {2}7b 22 74 6f/);
  await page.click('[data-way=text]');
  assert.match(await page.textContent('[data-content=payload]'), /^\{"to":/);
  assert.match(await text(page), /HTTP 502 from upstream/);
  await page.at(`#/task/${ids.done}`);
  assert.equal(await page.textContent('[data-content=result]'), '{\n  "rows": 12345678901234567890\n}');
  await page.at(`#/task/${ids.text}`);
  assert.equal(await page.textContent('[data-content=payload]'), 'no JSON: \u00e4\n');
  await page.at(`#/task/${ids.later}`);
  assert.match(await text(page), /Why it does not run/);
  assert.match(await text(page), /later/);
  await clean(page);
  await page.context().close();
});

test('masked keys are masked, wherever they stand', async () => {
  const page = await open(server.url);
  const bodies = [];
  page.on('response', async (r) => bodies.push(await r.text().catch(() => '')));
  await page.at(`#/task/${ids.waiting}`);
  assert.match(await text(page), /masked/);
  await page.at('#/tasks');
  for (const secret of ['sesame', 't0p']) {
    assert.ok(!(await page.content()).includes(secret));
    assert.ok(!bodies.some((b) => b.includes(secret)), 'it never leaves the server');
  }
  await clean(page);
  await page.context().close();
});

test('queues, workers, types, schedules and checks are listed', async () => {
  const page = await open(server.url);
  await page.at('#/queues');
  assert.match(await page.textContent('tr[data-key^="index"]'), /the index is being rebuilt/);
  assert.match(await page.textContent('tr[data-key^="images"]'), /100 per 1 min/);
  await page.at('#/workers');
  await until('a worker is there', () => page.locator('tbody tr').count());
  assert.match(await text(page), /slow/);
  await page.at('#/schedules');
  assert.match(await page.textContent('tr[data-key=nightly]'), /30 2 \* \* \* ?Europe\/Berlin/);
  await page.click('tr[data-key=nightly] [data-focus=open]');
  await until('what comes next', async () => (await page.locator('dialog time').count()) === 5);
  await page.keyboard.press('Escape');
  await page.at('#/doctor');
  assert.match(await text(page), /\d+ ok/);
  await page.at('#/types');
  await until('types of the last hour', () => page.locator('tr[data-key="webhook.deliver"]').count(), 20000);
  await page.click('th a:has-text("Ran")');
  await until('sorted', () => page.url().includes('sort=run'));
  await settled(page);
  await clean(page);
  await page.context().close();
});
