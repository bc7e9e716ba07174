// SPDX-License-Identifier: MIT
// Tasks: by every filter, page by page in order of ids, with actions on what is selected or on all that match.
import * as api from '../api.js';
import {bulkDialog} from '../bulkdialog.js';
import {bdi, fill, h} from '../dom.js';
import {bytes, number, time} from '../format.js';
import {filterForm, filterOf} from '../filter.js';
import * as keys from '../keys.js';
import * as live from '../live.js';
import {badge, blank, button, failure, heading, loading, meter, queueName, stateBadge, taskLink} from '../parts.js';
import {go, link} from '../route.js';
import {session} from '../session.js';
import {table} from '../table.js';

const PAGE = 50;

export function mount(root, path, params) {
  let filter = filterOf(params);
  let place = placeOf(params);
  let page = null;
  let ended = false;
  let timer = 0;
  let request = null;
  let counted = false;
  const selected = new Set();

  const form = filterForm((next) => {
    keepOrder(next);
    go(link(['tasks'], next));
  });
  const order = h('select', {id: 'order', 'aria-label': 'Order', onchange: () => {
    const next = new URLSearchParams(filter);
    if (order.value !== 'newest') next.set('order', order.value);
    go(link(['tasks'], next));
  }}, h('option', {value: 'newest'}, 'Newest first'), h('option', {value: 'oldest'}, 'Oldest first'));
  const count = h('span', {class: 'muted', role: 'status'});
  const all = h('input', {type: 'checkbox', 'aria-label': 'Select all of this page', onchange: () => {
    for (const t of page?.tasks ?? []) all.checked ? selected.add(t.id) : selected.delete(t.id);
    mark();
  }});
  const list = table([
    {name: 'select', head: session.mayChange ? all : h('span', {class: 'unseen'}, 'Selection'), class: 'tight', cell: (t) => session.mayChange && h('input', {type: 'checkbox', 'aria-label': `Select task ${t.id}`, dataset: {focus: 'select', id: String(t.id)}, onclick: (event) => pick(t.id, event)})},
    {name: 'id', label: 'Task', header: true, cell: (t) => taskLink(t.id)},
    {name: 'state', label: 'State', cell: (t) => [stateBadge(t.state), t.cancelling && badge('cancelling', 'is-paused')]},
    {
      name: 'type', label: 'Type and payload', class: 'grow', cell: (t) => [
        h('div', null, bdi(t.type, 'strong'), (t.tags ?? []).map((x) => h('span', {class: 'tag'}, bdi(x)))),
        h('div', {class: 'only-narrow under'}, queueName(t.queue, t.group), ', ', when(t)),
        h('div', {class: 'under'}, t.error && t.state !== 'done' ? h('bdi', {class: 'clip bad-text'}, t.error)
          : h('bdi', {class: 'clip mono'}, t.payload_encoding === 'base64' ? `(${bytes(t.payload_size)}, no text)` : `${t.payload ?? ''}${t.payload_truncated ? '…' : ''}`)),
      ],
    },
    {name: 'queue', label: 'Queue', class: 'p2', cell: (t) => queueName(t.queue, t.group)},
    {name: 'attempts', label: 'Failed', right: true, class: 'p3', cell: (t) => `${number(t.attempts)} / ${number(t.max_retries + 1)}`},
    {name: 'when', label: 'When', right: true, class: 'p1', cell: (t) => when(t)},
  ], {label: 'Tasks', key: (t) => t.id, class: 'tasks', empty: () => blank([...filter].length > 0 ? 'No task matches.' : 'There are no tasks.', [...filter].length > 0 ? 'Remove a filter, or look at other states.' : 'nanoq add TYPE PAYLOAD adds one.')});
  const body = h('div', {class: 'card list'}, loading());
  const pager = h('nav', {class: 'pager', 'aria-label': 'Pages'});
  const bar = h('div', {class: 'bulkbar', role: 'region', 'aria-label': 'Actions on many tasks'});
  const said = h('p', {class: 'muted bounded', hidden: true});
  fill(root, heading('Tasks', count, order), form.root, session.mayChange && bar, body, said, pager);

  function keepOrder(next) {
    if (place.order !== 'newest') next.set('order', place.order);
  }
  function pick(id, event) {
    const ids = (page?.tasks ?? []).map((t) => t.id);
    if (event.shiftKey && pick.last !== undefined && ids.includes(pick.last)) {
      const [a, b] = [ids.indexOf(pick.last), ids.indexOf(id)].sort((x, y) => x - y);
      for (const i of ids.slice(a, b + 1)) event.target.checked ? selected.add(i) : selected.delete(i);
    } else if (event.target.checked) selected.add(id);
    else selected.delete(id);
    pick.last = id;
    mark();
  }
  function mark() {
    for (const box of list.body.querySelectorAll('input[type=checkbox]')) {
      box.checked = selected.has(idOf(box.dataset.id));
      box.closest('tr').classList.toggle('selected', box.checked);
    }
    const here = (page?.tasks ?? []).filter((t) => selected.has(t.id)).length;
    all.checked = here > 0 && here === page.tasks.length;
    all.indeterminate = here > 0 && here < page.tasks.length;
    drawBar();
  }
  function idOf(text) {
    return (page?.tasks ?? []).find((t) => String(t.id) === text)?.id;
  }
  function drawBar() {
    const n = selected.size;
    const some = n > 0 ? {ids: [...selected]} : {filter: new URLSearchParams(filter)};
    const start = (action) => button({retry: 'Retry', cancel: 'Cancel', delete: 'Delete', move: 'Move…', priority: 'Priority…'}[action], async () => {
      if (await bulkDialog(action, some)) {
        selected.clear();
        read();
      }
    }, {class: action === 'delete' ? 'danger' : '', focus: action, label: `${action} ${n > 0 ? `${n} selected` : 'all that match'}`});
    const focused = bar.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
    fill(bar, h('span', {class: 'about'}, n > 0 ? h('strong', null, `${number(n)} selected`) : 'All that match', n > 0 && h('button', {type: 'button', class: 'plain', onclick: () => {
      selected.clear();
      mark();
    }}, 'None')), ['retry', 'cancel', 'delete', 'move', 'priority'].map(start));
    if (focused) bar.querySelector(`[data-focus="${focused}"]`)?.focus();
  }
  function to(extra) {
    const next = new URLSearchParams(filter);
    keepOrder(next);
    for (const [k, v] of Object.entries(extra)) next.set(k, v);
    return link(['tasks'], next);
  }
  function drawPager() {
    const turn = (name, label, on, extra) => (on ? h('a', {class: 'button', href: to(extra), dataset: {page: name}, rel: name}, label) : h('span', {class: 'button off', 'aria-disabled': 'true'}, label));
    const start = !place.after && !place.before;
    fill(pager, turn('first', 'First', !start, {}), turn('prev', 'Previous', page.more_before && page.first !== null, {before: page.first}), turn('next', 'Next', page.more_after && page.last !== null, {after: page.last}));
  }
  async function read() {
    clearTimeout(timer);
    request?.abort();
    const mine = (request = new AbortController());
    const ask = new URLSearchParams(filter);
    ask.set('order', place.order);
    if (place.after) ask.set('after', place.after);
    if (place.before) ask.set('before', place.before);
    ask.set('limit', PAGE);
    try {
      const answer = await api.get('tasks', ask, mine.signal);
      if (ended || mine !== request) return;
      page = answer;
      if (!list.root.isConnected) fill(body, list.root);
      list.update(page.tasks);
      said.hidden = !page.bounded;
      fill(said, page.bounded, page.bounded && page.reached && [' ', h('a', {href: to({after: String(page.reached)})}, 'Go on searching')]);
      mark();
      drawPager();
      // Where the page itself had to give up, counting would cost as much again and find no more.
      if (!counted && !page.bounded) counting();
      counted = true;
    } catch (e) {
      if (ended || e.name === 'AbortError') return;
      fill(body, failure(e, read));
    }
    if (!ended) timer = setTimeout(again, 3000);
  }
  function again() {
    if (!live.mayRead()) timer = setTimeout(again, 1000);
    else read();
  }
  async function counting() {
    const asked = filter.toString();
    try {
      const c = await api.get('tasks/count', filter);
      if (!ended && asked === filter.toString()) count.textContent = `${number(c.n)}${c.capped ? '+' : ''} ${c.n === 1 && !c.capped ? 'task' : 'tasks'}`;
    } catch {
      // The list says what is wrong.
    }
  }
  function fromAddress(next) {
    filter = filterOf(next);
    place = placeOf(next);
    order.value = place.order;
    form.show(next);
    count.textContent = '';
    counted = false;
    read();
  }
  const current = () => list.current()?.querySelector('input[type=checkbox]');
  const bulk = (action) => () => session.mayChange && bar.querySelector(`[data-focus="${action}"]`)?.click();
  keys.bindView([
    ['/', 'search', () => form.focus()],
    ['j', 'next row', () => list.step(1)],
    ['k', 'row before', () => list.step(-1)],
    ['o', 'open', () => list.current()?.querySelector('a')?.click()],
    ['x', 'select the row', () => current()?.click()],
    ['a', 'select all of the page', () => session.mayChange && all.click()],
    ['n', 'next page', () => pager.querySelector('[data-page=next]')?.click()],
    ['b', 'page before', () => pager.querySelector('[data-page=prev]')?.click()],
    ['r', 'retry what is selected, or all that match', bulk('retry')],
    ['c', 'cancel it', bulk('cancel')],
    ['Delete', 'delete it', bulk('delete')],
  ]);
  fromAddress(params);
  drawBar();
  return {
    navigate(p, next) {
      if (filterOf(next).toString() !== filter.toString()) selected.clear();
      fromAddress(next);
      return true;
    },
    destroy() {
      ended = true;
      request?.abort();
      clearTimeout(timer);
    },
  };
}

function placeOf(params) {
  const id = (name) => (/^\d{1,19}$/.test(params.get(name) ?? '') ? params.get(name) : null);
  return {order: params.get('order') === 'oldest' ? 'oldest' : 'newest', after: id('after'), before: id('before')};
}

function when(t) {
  if (t.state === 'running') return t.progress_total > 0 || t.progress_done > 0 ? meter(t.progress_done, t.progress_total, 'Progress') : ['since ', time(t.claimed_at)];
  if (t.state === 'waiting') return time(t.run_at);
  return time(t.finished_at);
}
