// SPDX-License-Identifier: MIT
// What happens while one looks: samples, two browsers, the database away and back, signing in, reading only; all by keys.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import {after, before, test} from 'node:test';
import {Database, axe, clean, dashboard, end, open, seed, settled, stop, until} from './harness.js';

let db, ids, server;
before(async () => {
  db = new Database();
  ids = seed(db);
  server = await dashboard(db);
});
after(end);

test('two browsers see what the other does, and what workers do', async () => {
  const one = await open(server.url);
  const two = await open(server.url, {colorScheme: 'dark'});
  await one.at('#/queues');
  await two.at('#/queues');
  await one.click('tr[data-key^="images"] [data-focus=pause]');
  await one.fill('dialog input', 'seen by both');
  await one.keyboard.press('Enter');
  await until('the other sees it', async () => /seen by both/.test(await two.textContent('tr[data-key^="images"]')));
  await two.click('tr[data-key^="images"] [data-focus=pause]');
  await until('and the first sees it go on', async () => !/seen by both/.test(await one.textContent('tr[data-key^="images"]')));
  await two.at('#/overview');
  const due = async () => Number(await two.textContent('[data-tile=due] .value'));
  await until('a number', async () => Number.isFinite(await due()));
  const before = await due();
  db.lines(Array.from({length: 7}, (_, i) => ({type: 'live', queue: 'live', payload: i})));
  await until('seven more are due', async () => (await due()) === before + 7);
  const worker = db.work('-q', 'live', '--', 'true');
  await until('and done', async () => (await due()) === before);
  await stop(worker);
  await clean(one);
  await clean(two);
  await one.context().close();
  await two.context().close();
});

test('progress of a running task is live', async () => {
  const page = await open(server.url);
  const id = db.lines([{type: 'slow', queue: 'slow', payload: 1}])[0];
  const script = path.join(db.dir, 'stream.sh');
  fs.writeFileSync(script, 'read -r line\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "{\\"progress\\": ' + id + ', \\"count\\": $i, \\"total\\": 12, \\"note\\": \\"page $i\\"}"; sleep 0.5; done\necho "{\\"done\\": ' + id + '}"\n');
  await page.at(`#/task/${id}`);
  const worker = db.work('-q', 'slow', '-j1', '--stream', '--', 'sh', script);
  await until('it runs', async () => /running/.test(await page.textContent('.task-head')));
  await until('its progress is shown', async () => /\/ 12/.test(await page.textContent('main')), 20000);
  assert.match(await page.textContent('main'), /page \d/);
  await until('it has ended, and the page says so', async () => /There is no task/.test(await page.textContent('main')), 30000);
  await stop(worker);
  await clean(page, (f) => f.includes('404'));
  await page.context().close();
});

test('lines of a log are shown once, also where an action reads while a look is under way', async () => {
  const page = await open(server.url);
  const id = db.lines([{type: 'talks', queue: 'talks', payload: 1, max_retries: 0}])[0];
  await page.at(`#/task/${id}`);
  const held = [];
  let hold = true;
  await page.route(/\/logs/, (route) => (hold ? held.push(route) : route.continue()));
  db.failing('work', '--drain', '--quiet', '--keep-logs', '-q', 'talks', '--', 'sh', '-c', 'echo a line >&2; exit 65');
  await until('a look waits for lines', () => held.length === 1);
  await page.click('.task-head + .tools [data-focus=retry]');
  await until('so does that of the action', () => held.length === 2);
  hold = false;
  for (const route of held) await route.continue();
  await until('the line is there', () => page.locator('.logs li').count());
  await page.waitForTimeout(500);
  assert.equal(await page.locator('.logs li:has-text("a line")').count(), 1);
  await clean(page);
  await page.context().close();
});

test('nothing is asked while updates are paused or the page is hidden', async () => {
  const page = await open(server.url);
  await page.at('#/tasks');
  await until('it is live', () => page.locator('#status.is-live').count());
  await page.keyboard.press('p');
  await until('it is paused', () => page.locator('#status.is-paused').count());
  await page.waitForTimeout(1500);
  let asked = 0;
  page.on('request', () => asked++);
  await page.waitForTimeout(5000);
  assert.equal(asked, 0);
  await page.click('#status');
  await until('it goes on', () => asked > 1);
  // Hidden: as the browser says it.
  await page.evaluate(() => {
    Object.defineProperty(document, 'hidden', {configurable: true, get: () => true});
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForTimeout(1500);
  asked = 0;
  await page.waitForTimeout(5000);
  assert.equal(asked, 0);
  await page.evaluate(() => {
    delete document.hidden;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await until('seen again, it goes on', () => asked > 1);
  await clean(page);
  await page.context().close();
});

test('all by keys alone', async () => {
  const page = await open(server.url);
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const at = (hash) => until(`at ${hash}`, async () => new URL(page.url()).hash === hash && (await settled(page), true));
  await page.at('#/overview');
  await press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'skip');
  await press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  for (const [key, name] of [['t', 'tasks'], ['q', 'queues'], ['w', 'workers'], ['y', 'types'], ['s', 'schedules'], ['d', 'doctor'], ['b', 'bulk'], ['l', 'log'], ['o', 'overview']]) {
    await press('g', key);
    await at(`#/${name}`);
    assert.equal(await page.evaluate(() => document.activeElement.localName), 'h1', `the focus is in ${name}`);
  }
  await press('g', 't');
  await at('#/tasks');
  await press('/');
  await page.keyboard.type('ada@example');
  await press('Enter');
  await at('#/tasks?text=ada%40example');
  const keys = () => page.evaluate(() => [...document.querySelectorAll('tbody tr')].map((tr) => tr.dataset.key).join());
  await until('the list is that of the search', async () => (await keys()).split(',')[0] === String(ids.waiting)); // the address changes before it
  await press('Escape', 'j', 'o');
  await at(`#/task/${ids.waiting}`);
  await press('r');
  await page.waitForSelector('.note');
  await press('c');
  await page.waitForSelector('dialog[open]');
  await press('Escape');
  await page.waitForSelector('dialog', {state: 'detached'});
  await press('u');
  await at('#/tasks?text=ada%40example');
  const [a, b] = db.lines([{type: 'keys', queue: 'keys', payload: 1, in: '1h'}, {type: 'keys', queue: 'keys', payload: 2, in: '1h'}]);
  await page.at('#/tasks?queue=keys');
  await until('the list is that of the queue', async () => await keys() === `${b},${a}`);
  await press('j');
  assert.equal(await page.evaluate(() => document.activeElement.closest('tr').dataset.key), String(b));
  await press('ArrowDown');
  assert.equal(await page.evaluate(() => document.activeElement.closest('tr').dataset.key), String(a));
  await press('x', 'c');
  await page.waitForSelector('dialog[open]');
  if (server.hasBulk) {
    await page.waitForSelector('dialog [data-would="1"]');
    await press('Enter');
    await until('it is cancelled', () => db.show(a).state === 'cancelled');
    assert.equal(db.show(b).state, 'waiting');
  } else {
    await press('Escape');
  }
  await page.waitForSelector('dialog', {state: 'detached'});
  await press('?');
  await page.waitForSelector('dialog[open]');
  assert.match(await page.textContent('dialog'), /retry what is selected/);
  await page.click('#shortcuts-on');
  await press('Escape');
  await press('g', 'q');
  await page.waitForTimeout(300);
  assert.ok(page.url().endsWith('#/tasks?queue=keys'), 'shortcuts are off');
  // Each thing that can be reached by Tab shows that it has the focus.
  await page.at('#/queues');
  const seen = new Set();
  for (let i = 0; i < 40; i++) {
    await press('Tab');
    const one = await page.evaluate(() => {
      const e = document.activeElement;
      const target = e.matches('.chip input') ? e.nextElementSibling : e;
      const s = getComputedStyle(target);
      return {what: `${e.localName} ${e.textContent} ${e.getAttribute('aria-label') ?? ''}`, visible: e === document.body || (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2)};
    });
    assert.ok(one.visible, `the focus is not to be seen on ${one.what}`);
    seen.add(one.what);
  }
  assert.ok([...seen].some((w) => w.includes('Pause')), [...seen].join('\n'));
  await clean(page);
  await page.context().close();
});

test('the colours are as chosen, also after a reload, and it prints in light ones', async () => {
  const page = await open(server.url, {colorScheme: 'dark'});
  await page.at('#/overview');
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.click('#theme');
  const light = await background();
  assert.notEqual(light, dark);
  await page.reload();
  await settled(page);
  assert.equal(await background(), light);
  await page.click('#theme');
  assert.equal(await background(), dark);
  await page.emulateMedia({media: 'print'});
  assert.equal(await background(), 'rgb(255, 255, 255)');
  assert.equal(await page.isVisible('.side'), false);
  await clean(page);
  await page.context().close();
});

test('the dashboard away and back', async () => {
  const other = await dashboard(db);
  const page = await open(other.url);
  await page.at('#/queues');
  await until('it is live', () => page.locator('#status.is-live').count());
  const port = new URL(other.url).port;
  await stop(other.child);
  await until('it says so', () => page.locator('#status.is-lost').count());
  assert.ok(await page.isVisible('.banner'));
  assert.ok(await page.isVisible('tr[data-key^="images"]'), 'what was shown stays');
  const again = await dashboard(db, '--listen', `127.0.0.1:${port}`);
  await until('it is live again', () => page.locator('#status.is-live').count(), 20000);
  assert.equal(await page.isVisible('.banner'), false);
  await stop(again.child);
  await page.context().close();
});

test('the database away and back', {skip: process.env.NANOQ_TEST_MYSQL ? false : 'NANOQ_TEST_MYSQL is not set'}, async () => {
  const server_ = new URL(process.env.NANOQ_TEST_MYSQL);
  const sockets = new Set();
  let up = true;
  const proxy = net.createServer((client) => {
    if (!up) return client.destroy();
    const there = net.connect(Number(server_.port), server_.hostname);
    for (const [from, to] of [[client, there], [there, client]]) {
      sockets.add(from);
      from.on('data', (d) => to.write(d));
      from.on('close', () => to.destroy());
      from.on('error', () => to.destroy());
    }
  });
  await new Promise((r) => proxy.listen(0, '127.0.0.1', r));
  const {execFileSync} = await import('node:child_process');
  const name = `nanoq_web_${process.pid}`;
  execFileSync('mariadb', ['--protocol=tcp', '-h', server_.hostname, '-P', server_.port, '-u', 'root', '-e', `CREATE DATABASE ${name}`]);
  try {
    const remote = new Database(`mysql://root@${server_.host}/${name}`);
    remote.lines([{type: 'a', queue: 'mail', payload: 1}]);
    remote.url = `mysql://root@127.0.0.1:${proxy.address().port}/${name}`;
    const own = await dashboard(remote);
    const page = await open(own.url);
    await page.at('#/queues');
    await until('it is live', () => page.locator('#status.is-live').count());
    up = false;
    for (const s of sockets) s.destroy();
    await until('the page says that the database is away', () => page.locator('#status.is-down').count(), 40000);
    assert.match(await page.textContent('.banner'), /The database is away/);
    assert.ok(await page.isVisible('tr[data-key^="mail"]'), 'what was shown stays');
    await page.goto(`${own.url}#/workers`);
    await until('a view that needs it says so', async () => /The database is away/.test(await page.textContent('main')), 40000);
    up = true;
    await until('it is live again', () => page.locator('#status.is-live').count(), 40000);
    await until('and the view shows', async () => /No worker runs/.test(await page.textContent('main')), 20000);
    await stop(own.child);
    await page.context().close();
  } finally {
    proxy.close();
    for (const s of sockets) s.destroy();
    execFileSync('mariadb', ['--protocol=tcp', '-h', server_.hostname, '-P', server_.port, '-u', 'root', '-e', `DROP DATABASE ${name}`]);
  }
});

test('with --read-only nothing offers a change', async () => {
  const own = await dashboard(db, '--read-only');
  const page = await open(own.url);
  await page.at('#/tasks');
  assert.equal(await page.locator('.bulkbar').count(), 0);
  assert.equal(await page.locator('main input[data-id]').count(), 0);
  await page.at('#/queues');
  assert.equal(await page.locator('tbody button').count(), 0);
  await page.at(`#/task/${ids.dead}`);
  await page.keyboard.press('r');
  await page.keyboard.press('Delete');
  await page.waitForTimeout(300);
  assert.equal(await page.locator('dialog').count(), 0);
  assert.equal(db.show(ids.dead).state, 'dead');
  await clean(page);
  await page.context().close();
  await stop(own.child);
});

test('a token signs in, a viewer changes nothing, and signing out is that', async () => {
  const file = path.join(db.dir, 'tokens');
  fs.writeFileSync(file, 'admin admin-token-0123456789 alice\nviewer viewer-token-0123456789 office\n', {mode: 0o600});
  const own = await dashboard(db, '--token-file', file, '--mask', 'password');
  const refused = (f) => /status of 40[13]/.test(f);
  const page = await open(own.url);
  await page.goto(own.url);
  await page.waitForSelector('.signin');
  assert.deepEqual(await axe(page), []);
  await page.fill('input[name=token]', 'not-the-token-0123456789');
  await page.keyboard.press('Enter');
  await until('it is refused', () => page.isVisible('.signin .error'));
  await page.fill('input[name=token]', 'viewer-token-0123456789');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.top');
  await page.at('#/tasks');
  assert.equal(await page.locator('.bulkbar').count(), 0);
  assert.ok(await page.isDisabled('#filter-text'), 'what is masked cannot be searched for');
  await page.at(`#/task/${ids.dead}`);
  assert.equal(await page.locator('main [data-focus=retry]').count(), 0);
  await page.click('#signout');
  await page.waitForSelector('.signin');
  await page.fill('input[name=token]', 'admin-token-0123456789');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.top');
  await page.at(`#/task/${ids.cancelled}`);
  await page.click('main [data-focus=retry]');
  await until('it waits', () => db.show(ids.cancelled).state === 'waiting');
  await page.at('#/log');
  await until('who did it is in the log', async () => /alice/.test(await page.textContent('main')));
  await clean(page, refused);
  await page.context().close();
  await stop(own.child);
});
