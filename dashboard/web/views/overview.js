// SPDX-License-Identifier: MIT
// Overview: how deep the queues are, how late, how fast, what fails; now and over a time.
import * as api from '../api.js';
import {chart} from '../chart.js';
import {add, fill, h} from '../dom.js';
import {compact, duration, now, number, rate, time} from '../format.js';
import * as live from '../live.js';
import {badge, blank, failure, heading, queueName, taskLink} from '../parts.js';
import {link} from '../route.js';
import {table} from '../table.js';

const WINDOWS = [['15m', '15 min', 900], ['1h', '1 h', 3600], ['24h', '24 h', 86400]];

function tile(name, label, href) {
  const value = h('span', {class: 'value'}, '–');
  const sub = h('span', {class: 'sub'});
  const root = h(href ? 'a' : 'div', {class: `tile t-${name}`, href, dataset: {tile: name}}, h('span', {class: 'label'}, label), value, sub);
  return {root, set(text, below, tone) {
    value.textContent = text;
    sub.textContent = below ?? '';
    root.dataset.tone = tone ?? '';
  }};
}

export function mount(root, path, params) {
  let shown = params.get('window') ?? '15m';
  const tiles = {
    due: tile('due', 'Due', link(['tasks'], {state: 'waiting'})),
    oldest: tile('oldest', 'Oldest due'),
    running: tile('running', 'Running', link(['tasks'], {state: 'running'})),
    done: tile('done', 'Done per second'),
    failed: tile('failed', 'Failures per minute'),
    dead: tile('dead', 'Dead', link(['tasks'], {state: 'dead'})),
  };
  const charts = {
    through: chart('Throughput, per minute', [
      {label: 'Done', color: '--done', swatch: 'is-done', kind: 'bars', fill: true},
      {label: 'Failed', color: '--dead', swatch: 'is-dead', kind: 'line'},
    ], compact, {least: 5}),
    depth: chart('Depth', [
      {label: 'Due', color: '--waiting', swatch: 'is-waiting', kind: 'line', fill: true},
      {label: 'Running', color: '--running', swatch: 'is-running', kind: 'line'},
    ], compact, {least: 5}),
    wait: chart('Oldest due', [
      {label: 'Oldest due', color: '--retry', swatch: 'is-retry', kind: 'line', fill: true},
    ], duration, {least: 1, axis: short}),
    failures: chart('Failures, per minute', [
      {label: 'Retried', color: '--retry', swatch: 'is-retry', kind: 'line'},
      {label: 'Dead', color: '--dead', swatch: 'is-dead', kind: 'bars', fill: true},
    ], compact, {least: 5}),
  };
  const toggle = h('div', {class: 'segments', role: 'group', 'aria-label': 'Time'}, WINDOWS.map(([name, label]) => h('a', {href: link(['overview'], {window: name}), dataset: {window: name}}, label)));
  const queues = table([
    {name: 'queue', label: 'Queue', header: true, cell: (q) => h('a', {href: link(['tasks'], {queue: q.queue}), dataset: {focus: 'open'}}, queueName(q.queue))},
    {name: 'due', label: 'Due', right: true, cell: (q) => number(q.due)},
    {name: 'delayed', label: 'Later', right: true, class: 'p2', cell: (q) => number(q.delayed)},
    {name: 'running', label: 'Running', right: true, cell: (q) => number(q.running)},
    {name: 'dead', label: 'Dead', right: true, cell: (q) => (q.dead > 0 ? h('a', {class: 'bad-text', href: link(['tasks'], {queue: q.queue, state: 'dead'}), dataset: {focus: 'dead'}}, number(q.dead)) : '0')},
    {name: 'oldest', label: 'Oldest due', right: true, class: 'p2', cell: (q) => (q.due > 0 ? duration(q.oldest_due) : '–')},
    {name: 'state', label: 'State', cell: (q) => (q.paused ? badge('paused', 'is-paused') : q.due + q.running > 0 ? badge('active', 'is-running') : badge('idle', 'is-other'))},
  ], {label: 'Queues', key: (q) => q.queue, empty: () => blank('No queue has tasks yet.', 'nanoq add TYPE PAYLOAD adds one.')});
  const dead = table([
    {name: 'id', label: 'Task', header: true, cell: (t) => taskLink(t.id)},
    {name: 'type', label: 'Type', cell: (t) => h('bdi', null, t.type)},
    {name: 'error', label: 'Error', class: 'grow', cell: (t) => h('bdi', {class: 'clip'}, t.error ?? '')},
    {name: 'when', label: 'When', right: true, class: 'p1', cell: (t) => time(t.finished_at)},
  ], {label: 'Latest dead tasks', key: (t) => t.id, empty: () => blank('No task is dead.')});
  const problem = h('div');
  fill(root, heading('Overview', toggle), problem,
    h('section', {class: 'tiles', 'aria-label': 'Now'}, Object.values(tiles).map((t) => t.root)),
    h('div', {class: 'charts'}, Object.values(charts).map((c) => c.root)),
    h('div', {class: 'two'}, h('section', {class: 'card'}, h('h2', null, 'Queues'), queues.root), h('section', {class: 'card'}, h('h2', null, 'Latest dead tasks'), dead.root)));

  function mark() {
    for (const a of toggle.children) {
      if (a.dataset.window === shown) a.setAttribute('aria-current', 'true');
      else a.removeAttribute('aria-current');
    }
  }
  function sampled(s) {
    const t = s.totals;
    const more = (n) => `${compact(n)}${s.capped && n >= 10000 ? '+' : ''}`;
    tiles.due.set(more(t.due), `${compact(t.delayed)} later`);
    tiles.oldest.set(t.due > 0 ? duration(t.oldest_due) : '–', t.due > 0 ? 'waits to be started' : 'nothing is late', t.oldest_due > 300 ? 'warn' : '');
    tiles.running.set(more(t.running), s.workers ? `${compact(s.workers.running)} of ${compact(s.workers.concurrency)} handlers` : '');
    tiles.dead.set(more(t.dead), t.cancelled > 0 ? `${compact(t.cancelled)} cancelled` : '', t.dead > 0 ? 'bad' : '');
    if (s.rates) {
      tiles.done.set(rate(s.rates.done), 'over the last minute');
      tiles.failed.set(rate((s.rates.retried + s.rates.dead) * 60), `${rate(s.rates.dead * 60)} of them final`, s.rates.retried + s.rates.dead > 0 ? 'warn' : '');
    }
    queues.update(s.queues ?? []);
  }
  let timer = 0;
  let ended = false;
  async function read() {
    clearTimeout(timer);
    const asked = shown;
    let wait = asked === '24h' ? 30000 : 5000;
    try {
      const [o, d] = await Promise.all([api.get('overview', {window: asked}), api.get('tasks', {state: 'dead', order: 'newest', limit: 6})]);
      if (ended || asked !== shown) return;
      problem.replaceChildren();
      const s = o.series;
      const seconds = WINDOWS.find(([name]) => name === asked)?.[2] ?? 900;
      const end = now() / 1000;
      const range = [end - seconds, end];
      // The last interval is not over: what was counted in it so far would look like a fall.
      const per = (list) => list.map((n, i) => (i === list.length - 1 ? null : n === null ? null : (n * 60) / s.step));
      const [done, retried, died] = [per(s.done), per(s.retried), per(s.dead)];
      const failed = retried.map((n, i) => (n === null ? null : n + died[i]));
      const total = (list) => number(list.reduce((a, b) => a + (b ?? 0), 0));
      charts.through.update([s.t, done, failed], range, `${total(s.done)} done, ${total(s.retried)} retried, ${total(s.dead)} dead`);
      charts.depth.update([s.t, s.due, s.running], range, `now ${last(s.due)} due, ${last(s.running)} running`);
      charts.wait.update([s.t, s.oldest_due], range, `now ${duration(last(s.oldest_due))}`);
      charts.failures.update([s.t, retried, died], range, `${total(s.retried)} retried, ${total(s.dead)} dead`);
      dead.update(d.tasks);
    } catch (e) {
      if (!ended) fill(problem, failure(e, read));
      wait = 3000;
    }
    if (!ended && asked === shown) timer = setTimeout(again, wait);
  }
  function again() {
    if (live.mayRead()) read();
    else timer = setTimeout(again, 1000);
  }
  mark();
  const off = live.listen(sampled);
  read();
  return {
    navigate(p, next) {
      shown = next.get('window') ?? '15m';
      mark();
      read();
      return true;
    },
    destroy() {
      ended = true;
      clearTimeout(timer);
      off();
      for (const c of Object.values(charts)) c.destroy();
    },
  };
}

// One unit, which has room beside a chart.
const short = (s) => (s === 0 ? '0' : s < 600 ? `${+s.toFixed(1)} s` : s < 10800 ? `${Math.round(s / 60)} min` : `${+(s / 3600).toFixed(1)} h`);
const last = (list) => list.findLast((x) => x !== null && x !== undefined) ?? 0;
