// SPDX-License-Identifier: MIT
// The list of tasks: every filter, pages, what is done with one, with those selected, and with all that match.
import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Database, clean, dashboard, end, open, seed, settled, until} from './harness.js';

let db, ids, server;
before(async () => {
  db = new Database();
  ids = seed(db);
  server = await dashboard(db);
});
after(end);

const listed = (page) => page.$$eval('table.tasks tbody tr', (all) => all.map((tr) => Number(tr.dataset.key)));
const shows = (page, want) => until(`the list is ${want}`, async () => JSON.stringify(await listed(page)) === JSON.stringify(want));

test('each filter is in the address, and finds what it says', async () => {
  const page = await open(server.url);
  const dead = [ids.dead3, ids.dead2, ids.dead1, ids.dead0, ids.dead];
  for (const [search, want] of [
    ['state=dead', dead],
    ['state=done&state=cancelled', [ids.cancelled, ids.done]],
    ['queue=images', [ids.cancelled, ids.later]],
    ['queue=mail//42', [ids.grouped]],
    ['type=image.resize', [ids.cancelled, ids.later]],
    ['type=email.*', [ids.grouped, ids.waiting]],
    ['tag=eu', [ids.grouped]],
    ['text=grace', [ids.grouped]],
    ['text=00f067aa0ba902b7', [ids.dead]],
    ['error=HTTP%20502&queue=hooks', dead],
    ['worker=nobody:1', []],
    ['by=finished&since=2001-01-01T00:00:00Z&state=done', [ids.done]],
    ['state=dead&order=oldest', [...dead].reverse()],
    ['since=2200-01-01T00:00:00Z', []],
    ['until=2001-01-01T00:00:00Z', []],
  ]) {
    await page.at(`#/tasks?${search}`);
    await shows(page, want);
  }
  await clean(page);
  await page.context().close();
});

test('the form writes the address, back and forward and reload keep the view', async () => {
  const page = await open(server.url);
  await page.at('#/tasks');
  await page.click('#state-dead');
  await until('the state is in the address', () => page.url().includes('state=dead'));
  await settled(page);
  await page.fill('#filter-queue', 'hooks');
  await page.keyboard.press('Enter');
  await until('the queue too', () => page.url().endsWith('#/tasks?state=dead&queue=hooks'));
  await settled(page);
  await shows(page, [ids.dead3, ids.dead2, ids.dead1, ids.dead0, ids.dead]);
  await page.reload();
  await settled(page);
  await shows(page, [ids.dead3, ids.dead2, ids.dead1, ids.dead0, ids.dead]);
  assert.equal(await page.inputValue('#filter-queue'), 'hooks');
  assert.ok(await page.isChecked('#state-dead'));
  await page.goBack();
  await until('without the queue', () => page.url().endsWith('#/tasks?state=dead'));
  await settled(page);
  assert.equal(await page.inputValue('#filter-queue'), '');
  await page.goForward();
  await until('with it again', async () => (await page.inputValue('#filter-queue')) === 'hooks');
  await page.click(`tr[data-key="${ids.dead}"] a.id`);
  await until('the task', () => page.url().endsWith(`#/task/${ids.dead}`));
  await settled(page);
  await page.goBack();
  await shows(page, [ids.dead3, ids.dead2, ids.dead1, ids.dead0, ids.dead]);
  await page.click('.pill');
  await until('a filter is taken away', () => page.url().endsWith('#/tasks?state=dead'));
  await settled(page);
  await page.click('button:has-text("Clear all")');
  await until('and all', () => page.url().endsWith('#/tasks'));
  await settled(page);
  await clean(page);
  await page.context().close();
});

test('pages go on and back and are links', async () => {
  const page = await open(server.url);
  await page.at('#/tasks?queue=index');
  const all = [...ids.many].reverse();
  await shows(page, all.slice(0, 50));
  await page.click('[data-page=next]');
  await shows(page, all.slice(50, 100));
  await page.click('[data-page=next]');
  await shows(page, all.slice(100));
  assert.equal(await page.locator('a[data-page=next]').count(), 0);
  await page.reload();
  await shows(page, all.slice(100));
  await page.click('[data-page=prev]');
  await shows(page, all.slice(50, 100));
  await page.click('[data-page=first]');
  await shows(page, all.slice(0, 50));
  assert.equal(await page.locator('a[data-page=prev]').count(), 0);
  await page.selectOption('#order', 'oldest');
  await shows(page, ids.many.slice(0, 50));
  await until('all are counted', async () => /130/.test(await page.textContent('.view-head')));
  await clean(page);
  await page.context().close();
});

test('back from a task is where one was in the list', async () => {
  const page = await open(server.url, {viewport: {width: 1280, height: 500}});
  await page.at('#/tasks?queue=index');
  const id = ids.many.at(-40);
  await page.locator(`tr[data-key="${id}"] a.id`).focus();
  const y = await page.evaluate(() => scrollY);
  assert.ok(y > 300);
  await page.keyboard.press('Enter');
  await until('the task', () => page.url().endsWith(`#/task/${id}`));
  await settled(page);
  await page.goBack();
  await until('as far down', async () => Math.abs((await page.evaluate(() => scrollY)) - y) < 40);
  await until('on the same link', () => page.evaluate((want) => document.activeElement.closest('tr')?.dataset.key === want, String(id)));
  await clean(page);
  await page.context().close();
});

test('one task is retried, cancelled, deleted', async () => {
  const page = await open(server.url);
  const [a, b] = db.lines([{type: 'one', queue: 'idle', payload: 1, in: '1h'}, {type: 'one', queue: 'idle', payload: 2, in: '1h'}]);
  await page.at(`#/task/${a}`);
  await page.click('[data-focus=retry]');
  await until('it is due', () => Date.parse(db.show(a).run_at) <= Date.now() + 1000);
  await page.click('main [data-focus=cancel]');
  await page.click('dialog button.danger');
  await until('it is cancelled', () => db.show(a).state === 'cancelled');
  await until('and shown so', async () => (await page.textContent('.task-head')).includes('cancelled'));
  await page.at(`#/task/${b}`);
  await page.click('main [data-focus=delete]');
  await page.click('dialog button:has-text("Back")');
  assert.equal(db.show(b).state, 'waiting');
  await page.click('main [data-focus=delete]');
  await page.click('dialog button.danger');
  await until('it is gone', () => {
    try {
      db.show(b);
      return false;
    } catch {
      return true;
    }
  });
  await clean(page, (f) => f.includes('404'));
  await page.context().close();
});

test('what is selected is retried, cancelled, deleted; what matches is moved and given a priority', async (t) => {
  if (!server.hasBulk) return t.skip('this server has no bulk jobs');
  const page = await open(server.url);
  const some = db.lines(Array.from({length: 6}, (_, i) => ({type: 'sel', queue: 'selected', payload: i, in: '1h'})));
  const select = async (...list) => {
    await page.at('#/tasks?queue=selected');
    for (const id of list) await page.click(`input[data-id="${id}"]`);
  };
  const run = async (action, fillIn) => {
    await page.click(`.bulkbar [data-focus=${action}]`);
    await page.waitForSelector('dialog [data-would]');
    await fillIn?.();
    await page.click('dialog .actions button[type=submit]');
    await page.waitForSelector('dialog', {state: 'detached'});
  };
  await select(some[0], some[1]);
  assert.match(await page.textContent('.bulkbar'), /2 selected/);
  await run('retry');
  await until('both are due', () => [some[0], some[1]].every((id) => Date.parse(db.show(id).run_at) <= Date.now() + 1000));
  await page.at('#/tasks?queue=selected&type=sel');
  await run('priority', () => page.fill('dialog input[type=number]', '-7'));
  await until('they have the priority', () => db.show(some[2]).priority === -7);
  await select(some[1], some[2]);
  await run('cancel');
  await until('both are cancelled', () => [some[1], some[2]].every((id) => db.show(id).state === 'cancelled'));
  assert.equal(db.show(some[0]).state, 'waiting');
  await select(some[3]);
  await run('priority', () => page.fill('dialog input[type=number]', '5'));
  await until('it alone has that priority', () => db.show(some[3]).priority === 5);
  assert.equal(db.show(some[4]).priority, -7);
  await select(some[0], some[3]);
  await run('move', () => page.fill('dialog input[type=text]', 'apart'));
  await until('both are in the other queue', () => [some[0], some[3]].every((id) => db.show(id).queue === 'apart'));
  const moved = db.lines([{type: 'moved', queue: 'selected', payload: 7, in: '1h'}])[0];
  await page.at('#/tasks?queue=selected&type=moved');
  await run('move', () => page.fill('dialog input[type=text]', 'elsewhere'));
  await until('it is elsewhere', () => db.show(moved).queue === 'elsewhere');
  await select(some[4], some[5]);
  await run('delete');
  await until('they are gone', () => db.json('list', '--queue', 'selected').length === 2);
  await clean(page);
  await page.context().close();
});

test('all that match are counted first, and changed after a yes', async (t) => {
  if (!server.hasBulk) return t.skip('this server has no bulk jobs');
  const page = await open(server.url);
  const some = db.lines(Array.from({length: 300}, (_, i) => ({type: 'bulk.a', queue: 'many', payload: i, in: '1h'})));
  const other = db.lines([{type: 'bulk.b', queue: 'many', payload: 0, in: '1h'}])[0];
  await page.at('#/tasks?queue=many&type=bulk.a');
  await page.click('.bulkbar [data-focus=cancel]');
  await page.waitForSelector('dialog [data-would="300"]');
  assert.equal(db.show(some[0]).state, 'waiting');
  await page.click('dialog button:has-text("Back")');
  await page.waitForSelector('dialog', {state: 'detached'});
  assert.equal(db.show(some[0]).state, 'waiting');
  await page.click('.bulkbar [data-focus=cancel]');
  await page.waitForSelector('dialog [data-would="300"]');
  await page.click('dialog button[type=submit]');
  await until('the jobs are shown', () => page.url().endsWith('#/bulk'));
  await settled(page);
  await until('the job has ended', async () => /done/.test(await page.textContent('tbody tr').catch(() => '')));
  assert.equal(db.json('list', '--queue', 'many', '--state', 'cancelled', '--limit', '1000').length, 300);
  assert.equal(db.show(other).state, 'waiting');
  await page.at('#/log');
  await until('the action is logged', async () => /cancel/.test(await page.textContent('main')));
  await page.at('#/tasks');
  await page.click('.bulkbar [data-focus=delete]');
  await page.waitForSelector('dialog [data-would]');
  await page.click('dialog button[type=submit]');
  assert.ok(await page.isVisible('dialog'), 'everything needs the word "all"');
  await page.keyboard.press('Escape');
  await clean(page);
  await page.context().close();
});

test('all that match are those that are listed, where an address repeats a name', async (t) => {
  if (!server.hasBulk) return t.skip('this server has no bulk jobs');
  const page = await open(server.url);
  const [both, one, third] = db.lines([['twice', 'vip'], ['twice'], ['twice', 'vip', 'old']].map((tags, i) => ({type: `twice.${i}`, queue: 'twice', payload: i, in: '1h', tags})));
  await page.at('#/tasks?queue=twice&tag=twice&tag=vip&type=twice.0&type=twice.1');
  await shows(page, [both]);
  await page.click('.bulkbar [data-focus=cancel]');
  await page.waitForSelector('dialog [data-would="1"]');
  await page.click('dialog button[type=submit]');
  await until('it is cancelled', () => db.show(both).state === 'cancelled');
  assert.deepEqual([one, third].map((id) => db.show(id).state), ['waiting', 'waiting']);
  await clean(page);
  await page.context().close();
});

test('queues and schedules are paused, resumed, limited, run', async () => {
  const page = await open(server.url);
  await page.at('#/queues');
  await page.click('tr[data-key^="images"] [data-focus=pause]');
  await page.fill('dialog input', 'for a test');
  await page.keyboard.press('Enter');
  const queue = () => db.json('queues').find((q) => q.queue === 'images');
  await until('it is paused', () => queue().paused && queue().paused_why === 'for a test');
  await until('it is shown', async () => /for a test/.test(await page.textContent('tr[data-key^="images"]')));
  await page.click('tr[data-key^="images"] [data-focus=pause]');
  await until('it goes on', () => !queue().paused);
  await page.click('tr[data-key^="images"] [data-focus=limits]');
  await page.waitForSelector('dialog');
  await page.fill('dialog input >> nth=0', '9');
  await page.getByLabel('Done tasks are kept').fill('7d');
  await page.click('dialog button[type=submit]');
  await until('the limit is set', () => queue().limit === 9);
  assert.equal(queue().rate_starts, 100);
  assert.equal(queue().keep_done, 604800);
  await until('that is shown', async () => /done kept 7 d/.test(await page.textContent('tr[data-key^="images"]')));
  await page.click('tr[data-key^="images"] [data-focus=limits]');
  await page.waitForSelector('dialog');
  await page.fill('dialog input >> nth=0', '8');
  await page.click('dialog button[type=submit]');
  await until('the limit is another', () => queue().limit === 8);
  assert.deepEqual([queue().rate_starts, queue().rate_time, queue().keep_done], [100, 60, 604800], 'what is not changed stays');
  await page.at('#/schedules');
  const schedule = () => db.json('cron', 'list').find((s) => s.name === 'often');
  await page.click('tr[data-key=often] [data-focus=pause]');
  await page.click('dialog button[type=submit]');
  await until('the schedule is paused', () => schedule().state === 'paused');
  await until('and shown so', async () => /paused/.test(await page.textContent('tr[data-key=often]')));
  await page.click('tr[data-key=often] [data-focus=pause]');
  await until('it goes on', () => schedule().state === 'active');
  await page.click('tr[data-key=often] [data-focus=run]');
  await page.click('dialog button[type=submit]');
  await until('its task has come', () => schedule().task_id > 0);
  await clean(page);
  await page.context().close();
});
