// SPDX-License-Identifier: MIT
// One task: everything that is known of it, why it does not run, and what can be done with it.
import * as api from '../api.js';
import {content} from '../content.js';
import {bdi, fill, h} from '../dom.js';
import {duration, number, time} from '../format.js';
import * as keys from '../keys.js';
import * as live from '../live.js';
import {act, badge, blank, button, copy, fact, failure, heading, loading, meter, queueName, stateBadge, STATES} from '../parts.js';
import {link} from '../route.js';
import {session} from '../session.js';
import {table} from '../table.js';

function headersOf(t) {
  return Array.isArray(t.headers) ? t.headers.map((x) => [x.name, x.value]) : Object.entries(t.headers ?? {});
}

// The times in a text as this browser's.
function withTimes(text) {
  return text.split(/(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/).map((part, i) => (i % 2 ? time(part, true) : part));
}

export function mount(root, path) {
  const id = path[1] ?? '';
  let ended = false;
  let timer = 0;
  let task = null;
  let drawn = '';
  const head = h('div');
  const facts = h('div');
  const why = h('section', {class: 'card', 'aria-label': 'Why'});
  const payload = h('div');
  const result = h('div');
  const error = h('div');
  const headers = h('div');
  const attemptsTable = table([
    {name: 'attempt', label: 'Attempt', header: true, cell: (a) => (a.attempt ? number(a.attempt) : '–')},
    {name: 'outcome', label: 'Outcome', cell: (a) => badge(a.outcome, a.outcome === 'failed' ? 'is-retry' : 'is-dead')},
    {name: 'started', label: 'Started', class: 'nowrap', cell: (a) => time(a.started_at)},
    {name: 'took', label: 'Took', right: true, class: 'p2', cell: (a) => (a.started_at && a.ended_at ? duration((Date.parse(a.ended_at) - Date.parse(a.started_at)) / 1000) : '–')},
    {name: 'worker', label: 'Worker', class: 'p2 nowrap', cell: (a) => (a.worker ? bdi(a.worker, 'mono') : '–')},
    {name: 'error', label: 'Error', class: 'grow', cell: (a) => h('bdi', {class: 'wrap'}, a.error ?? '')},
  ], {label: 'Attempts that failed', key: (a) => a.generation, empty: () => blank('No attempt has failed.')});
  const logs = h('ol', {class: 'logs', tabindex: '0', 'aria-label': 'Log'});
  const logCard = h('section', {class: 'card', hidden: true}, h('header', null, h('h2', null, 'Log')), logs);
  let lastLine = null;
  let serial = 0;
  const body = h('div', null, loading());
  fill(root, heading(`Task ${id}`), body);

  const may = {
    retry: () => task && task.state !== 'running',
    cancel: () => task && (task.state === 'waiting' || task.state === 'running'),
    delete: () => task && task.state !== 'running',
  };
  async function change(action) {
    if (!session.mayChange || !may[action]()) return;
    const ask = {
      retry: null,
      cancel: {title: `Cancel task ${id}?`, body: h('p', null, task.state === 'running' ? 'Its handler is told, and it never runs again.' : 'It is taken out of its queue and kept as cancelled.'), label: 'Cancel the task', danger: true},
      delete: {title: `Delete task ${id}?`, body: h('p', null, 'It is gone, with its errors and its result. This cannot be undone.'), label: 'Delete', danger: true},
    }[action];
    const done = await act(ask, () => api.post(`tasks/${api.part(id)}/${action}`), {retry: `Task ${id} is due`, cancel: `Task ${id}: cancelled, or told so`, delete: `Task ${id} is deleted`}[action]);
    if (done && action === 'delete') history.length > 1 ? history.back() : (location.hash = '#/tasks');
    else if (done) read();
  }
  function drawHead() {
    const line = task.command ?? null;
    fill(head, h('div', {class: 'task-head'}, stateBadge(task.state), task.cancelling && badge('cancelling', 'is-paused'), bdi(task.type, 'strong'), h('a', {href: link(['tasks'], {queue: task.queue})}, queueName(task.queue, task.group)), (task.tags ?? []).map((x) => h('a', {class: 'tag', href: link(['tasks'], {tag: x})}, bdi(x)))),
      h('div', {class: 'tools'}, session.mayChange && [
        button(task.state === 'waiting' ? 'Run now' : 'Retry', () => change('retry'), {disabled: !may.retry(), focus: 'retry', class: task.state === 'dead' ? 'primary' : ''}),
        button('Cancel', () => change('cancel'), {disabled: !may.cancel(), focus: 'cancel'}),
        button('Delete', () => change('delete'), {disabled: !may.delete(), focus: 'delete', class: 'danger'})],
        button('Copy as command', () => copy(line, 'Command'), {disabled: line === null, focus: 'copy', title: line === null ? 'Its payload is masked, or no text' : line}),
        button('Find alike', () => (location.hash = link(['tasks'], {type: task.type, state: task.state})), {focus: 'alike'})));
  }
  function drawFacts() {
    const t = task;
    const shown = [
      fact('Added', time(t.created_at, true)),
      t.state === 'waiting' && fact('Runs', time(t.run_at, true)),
      t.claimed_at && t.state === 'running' && fact('Running since', time(t.claimed_at, true)),
      t.finished_at && fact('Ended', time(t.finished_at, true)),
      t.worker && fact('Worker', bdi(t.worker, 'mono')),
      fact('Failed attempts', `${number(t.attempts)} of at most ${number(t.max_retries + 1)}`),
      t.crashes > 0 && fact('Crashes', number(t.crashes)),
      fact('Claims', number(t.generation)),
      fact('Priority', number(t.priority)),
      fact('Time limit', duration(t.timeout)),
      t.expires_at && fact('Expires', time(t.expires_at, true)),
      t.keep_until && fact('Kept until', time(t.keep_until, true)),
      t.schedule && fact('Schedule', h('a', {href: link(['schedules'], {name: t.schedule})}, bdi(t.schedule))),
      t.due_at && fact('Scheduled for', time(t.due_at, true)),
      t.dead_id > 0 && fact('Dead letter of', h('a', {href: link(['task', String(t.dead_id)])}, String(t.dead_id))),
      (t.progress_at || t.progress_done > 0) && fact('Progress', [meter(t.progress_done, t.progress_total, 'Progress'), t.progress_note && [' ', h('bdi', {class: 'wrap'}, t.progress_note)]], 'whole'),
    ];
    fill(facts, h('dl', {class: 'card facts'}, shown.filter(Boolean)));
  }
  function drawRest() {
    const t = task;
    fill(payload, content('Payload', t.payload ?? '', t.payload_encoding, t.payload_size, t.masked));
    fill(result, typeof t.result === 'string' ? content('Result', t.result, t.result_encoding, t.result_size, t.masked) : []);
    fill(error, t.error ? h('section', {class: 'card'}, h('header', null, h('h2', null, 'Last error'), button('Copy', () => copy(t.error, 'Error'), {class: 'plain'})), h('pre', {class: 'bad-text', tabindex: '0', 'aria-label': 'Last error'}, t.error)) : []);
    const all = headersOf(t);
    fill(headers, all.length > 0 ? h('section', {class: 'card'}, h('header', null, h('h2', null, 'Headers')), h('dl', {class: 'pairs'}, all.map(([k, v]) => h('div', null, h('dt', null, bdi(k, 'mono')), h('dd', null, h('bdi', {class: 'wrap mono'}, v)))))) : []);
  }
  function drawWhy(reasons) {
    fill(why, h('header', null, h('h2', null, {waiting: 'Why it does not run', running: 'Where it runs'}[task.state] ?? 'How it ended')), reasons.length === 0 ? h('p', {class: 'muted'}, 'Nothing is known.') : h('ul', {class: 'reasons'}, reasons.map((r) => h('li', null, STATES.includes(r.reason) ? stateBadge(r.reason) : badge(r.reason, 'is-other'), ' ', h('bdi', {class: 'wrap'}, withTimes(r.detail ?? ''))))));
  }
  function drawLogs(lines) {
    for (const l of lines) {
      lastLine = l.seq;
      logs.append(h('li', {class: `level-${['debug', 'info', 'warning', 'error'].includes(l.level) ? l.level : 'info'}`}, time(l.at), ' ', l.level && h('span', {class: 'level'}, l.level), ' ', h('bdi', {class: 'wrap'}, l.text ?? '')));
    }
    logCard.hidden = logs.children.length === 0;
  }
  async function read() {
    clearTimeout(timer);
    const mine = ++serial; // one that is under way when a button is pressed would add its lines once more
    const at = `tasks/${api.part(id)}`;
    try {
      const found = await api.get(at);
      const [reasons, lines] = await Promise.all([api.get(`${at}/why`), api.get(`${at}/logs`, {after: lastLine}).catch(() => null)]);
      if (ended || mine !== serial) return;
      task = found;
      const signature = JSON.stringify(found);
      if (!head.isConnected) fill(body, head, facts, h('div', {class: 'two'}, h('div', null, payload, headers), h('div', null, why, error, result)), h('section', {class: 'card'}, h('header', null, h('h2', null, 'Failed attempts')), attemptsTable.root), logCard);
      if (signature !== drawn) {
        const focused = head.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
        const before = drawn ? JSON.parse(drawn) : {};
        drawHead();
        drawFacts();
        const still = ['payload', 'result', 'masked', 'error', 'headers'].every((k) => JSON.stringify(before[k]) === JSON.stringify(found[k]));
        if (!drawn || !still) drawRest();
        drawn = signature;
        if (focused) head.querySelector(`[data-focus="${focused}"]`)?.focus();
      }
      drawWhy(reasons.reasons);
      attemptsTable.update(found.failures);
      if (lines) drawLogs(lines.lines);
    } catch (e) {
      if (ended || mine !== serial) return;
      if (e.status === 404) {
        fill(body, h('div', {class: 'empty'}, blank(`There is no task ${id}.`, 'It is done and was not kept, or it was deleted.', h('p', null, h('a', {href: '#/tasks'}, 'To the tasks')))));
        return;
      }
      if (!task) fill(body, failure(e, read));
    }
    timer = setTimeout(again, task?.state === 'running' ? 1000 : 3000);
  }
  function again() {
    if (!live.mayRead()) timer = setTimeout(again, 1000);
    else read();
  }
  keys.bindView([
    ['r', 'retry, run now', () => change('retry')],
    ['c', 'cancel', () => change('cancel')],
    ['Delete', 'delete', () => change('delete')],
    ['y', 'copy as command', () => task?.command && copy(task.command, 'Command')],
    ['u', 'back to the tasks', () => (history.length > 1 ? history.back() : (location.hash = '#/tasks'))],
  ]);
  read();
  return {
    destroy() {
      ended = true;
      clearTimeout(timer);
    },
  };
}
