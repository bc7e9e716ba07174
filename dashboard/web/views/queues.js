// SPDX-License-Identifier: MIT
// Queues and groups: their settings, tasks and workers; pausing, resuming, limits.
import * as api from '../api.js';
import {bdi, fill, h} from '../dom.js';
import {duration, number, time} from '../format.js';
import * as keys from '../keys.js';
import {act, badge, blank, button, heading, pauseQuestion} from '../parts.js';
import {confirm, field, note} from '../overlay.js';
import {poller} from '../poll.js';
import {link} from '../route.js';
import {session} from '../session.js';
import {table} from '../table.js';

// "mail//42": queue and group
export function split(name) {
  const at = name.indexOf('//');
  return at < 0 ? {queue: name, group: ''} : {queue: name.slice(0, at), group: name.slice(at + 2)};
}

const target = (q) => ({...split(q.queue), ...(q.type ? {type: q.type} : {})});

export function mount(root) {
  const list = table([
    {name: 'queue', label: 'Queue', header: true, class: 'grow', cell: (q) => [h('a', {href: link(['tasks'], {queue: q.queue}), dataset: {focus: 'open'}}, bdi(q.queue)), q.type && [' ', h('span', {class: 'tag'}, 'type ', bdi(q.type))], q.paused && h('div', {class: 'under'}, badge('paused', 'is-paused'), ' ', q.paused_at && time(q.paused_at), q.paused_why && [': ', h('bdi', {class: 'wrap'}, q.paused_why)])]},
    {name: 'due', label: 'Due', right: true, cell: (q) => number(q.due ?? q.waiting)},
    {name: 'waiting', label: 'Waiting', right: true, class: 'p3', cell: (q) => number(q.waiting)},
    {name: 'running', label: 'Running', right: true, cell: (q) => `${number(q.running)}${q.limit ? ` / ${number(q.limit)}` : ''}`},
    {name: 'workers', label: 'Workers', right: true, class: 'p2', cell: (q) => `${number(q.workers)}${q.handlers ? ` (${number(q.handlers)})` : ''}`},
    {name: 'limits', label: 'Limits', class: 'p2', cell: (q) => limits(q)},
    {name: 'act', label: 'Actions', class: 'actions-cell', cell: (q) => session.mayChange && h('span', {class: 'row-actions'},
      q.paused ? button('Resume', () => resume(q), {focus: 'pause', label: `Resume ${q.queue}`}) : button('Pause', () => pause(q), {focus: 'pause', label: `Pause ${q.queue}`}),
      button('Limits', () => edit(q), {focus: 'limits', label: `Limits of ${q.queue}`}))},
  ], {label: 'Queues', key: (q) => `${q.queue}\n${q.type ?? ''}`, empty: () => blank('There are no queues yet.', 'A queue is there as soon as a task is in it, or a worker serves it.')});
  const body = h('div');
  fill(root, heading('Queues'), h('div', {class: 'card list'}, body));
  const poll = poller(body, () => api.get('queues'), (d) => {
    if (!list.root.isConnected) fill(body, list.root);
    list.update(d.queues);
  });

  function limits(q) {
    const parts = [
      q.rate_starts && `${number(q.rate_starts)} per ${duration(q.rate_time)}${q.rate_left !== null && q.rate_left !== undefined ? `, ${number(q.rate_left)} left` : ''}`,
      q.burst && `burst ${number(q.burst)}`,
      q.weight && `weight ${number(q.weight)}`,
      q.ordered && q.ordered !== 'no' && `in order (${q.ordered})`,
      q.dead_to && ['dead to ', bdi(q.dead_to)],
      kept(q.keep_done) && `done kept ${kept(q.keep_done)}`,
      kept(q.keep_dead) && `dead kept ${kept(q.keep_dead)}`,
      q.held_until && ['held, ', time(q.held_until)],
      q.halted_by && ['halted by ', h('a', {href: link(['task', String(q.halted_by)]), dataset: {focus: 'halted'}}, String(q.halted_by))],
    ].filter(Boolean);
    return parts.length > 0 ? parts.map((p) => h('div', {class: 'nowrap'}, p)) : h('span', {class: 'none'}, '–');
  }
  async function pause(q) {
    if (await pauseQuestion(q.queue, (why) => api.post('queues/pause', {...target(q), why}))) {
      note(`${q.queue} is paused`);
      poll.now();
    }
  }
  async function resume(q) {
    if (await act(null, () => api.post('queues/resume', target(q)), `${q.queue} goes on`)) poll.now();
  }
  async function edit(q) {
    const n = (value, min, max) => h('input', {type: 'number', inputmode: 'numeric', step: '1', min: String(min), max: String(max), value: value ? String(value) : ''});
    const running = n(q.limit, 1, 2147483647);
    const starts = n(q.rate_starts, 1, 2147483647);
    const per = h('input', {type: 'text', value: q.rate_starts ? typed(q.rate_time) : '', autocomplete: 'off', placeholder: '1m'});
    const burst = n(q.burst, 1, 1000000);
    const weight = n(q.weight, 1, 1000);
    const ordered = h('select', null, ['', 'strict', 'halt'].map((v) => h('option', {value: v, selected: (q.ordered ?? '') === v}, {'': 'no', strict: 'one at a time', halt: 'one at a time, a dead one stops it'}[v])));
    const dead = h('input', {type: 'text', value: q.dead_to ?? '', autocomplete: 'off'});
    const span = (v) => h('input', {type: 'text', value: v === 0 ? 'none' : typeof v === 'number' ? typed(v) : v ?? '', autocomplete: 'off', placeholder: 'as the worker says'});
    const keepDone = span(q.keep_done), keepDead = span(q.keep_dead);
    const of = split(q.queue);
    running.dataset.first = '1';
    const done = await confirm(`Limits of ${q.queue}`, [
      h('p', null, 'They hold for all workers on all hosts. An empty field is no limit.'),
      h('div', {class: 'fields'},
        field('Running at once', running), field('Dead letters to queue', dead),
        field('Starts, at most', starts), field('In a time of', per, 'Such as 1s, 5m, 1h'), field('Burst', burst),
        of.group && field('Weight', weight), (of.group || q.type) && field('In order', ordered),
        field('Done tasks are kept', keepDone, 'Such as 7d, none, forever'), field('Dead tasks are kept', keepDead, 'The same, of cancelled ones too')),
    ], 'Set limits', () => api.post('queues/limit', {
      ...target(q), max_running: numberOf(running), rate_starts: numberOf(starts), rate_time: per.value.trim() || null, burst: numberOf(burst), weight: numberOf(weight), ordered: ordered.value || null, dead_to: dead.value.trim() || null,
      keep_done: keepDone.value.trim() || null, keep_dead: keepDead.value.trim() || null,
    }));
    if (done) {
      note(`The limits of ${q.queue} are set`);
      poll.now();
    }
  }
  keys.bindView([
    ['j', 'next row', () => list.step(1)],
    ['k', 'row before', () => list.step(-1)],
    ['z', 'pause or resume the row', () => list.current()?.querySelector('[data-focus=pause]')?.click()],
    ['e', 'limits of the row', () => list.current()?.querySelector('[data-focus=limits]')?.click()],
  ]);
  return {destroy: poll.end};
}

// How long; empty where nothing is set.
const kept = (v) => (v === 0 ? 'not at all' : typeof v === 'number' ? duration(v) : v ?? '');
// As one types it: "7d", "90s".
function typed(seconds) {
  const unit = [[86400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']].find(([size]) => seconds % size === 0);
  return unit ? `${seconds / unit[0]}${unit[1]}` : `${Math.round(seconds * 1000)}ms`;
}
const numberOf = (input) => (input.value === '' ? null : Number(input.value));
