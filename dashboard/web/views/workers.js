// SPDX-License-Identifier: MIT
// Workers that live, by their own words.
import * as api from '../api.js';
import {bdi, fill, h} from '../dom.js';
import {number, time} from '../format.js';
import * as keys from '../keys.js';
import {badge, blank, heading, meter} from '../parts.js';
import {poller} from '../poll.js';
import {link} from '../route.js';
import {table} from '../table.js';

// Names with a mark between: each a link, or one word for none.
function names(text, mark, none, to) {
  const all = Array.isArray(text) ? text : (text ?? '').split(mark).filter(Boolean);
  return all.length === 0 ? h('span', {class: 'muted'}, none) : all.map((n) => [h('a', {href: to(n), class: 'tag', dataset: {focus: n}}, bdi(n)), ' ']);
}

export function mount(root) {
  const list = table([
    {name: 'name', label: 'Worker', header: true, cell: (w) => h('a', {href: link(['tasks'], {worker: w.name, state: 'running'}), class: 'mono', dataset: {focus: 'open'}}, bdi(w.name))},
    {name: 'running', label: 'Running', cell: (w) => meter(w.running, w.concurrency, 'Handlers at work')},
    {name: 'queues', label: 'Queues', class: 'grow', cell: (w) => names(w.queues, ',', 'default', (q) => link(['queues'], {queue: q}))},
    {name: 'types', label: 'Types', class: 'p2', cell: (w) => names(w.types, '\n', 'any', (t) => link(['tasks'], {type: t}))},
    {name: 'version', label: 'Version', class: 'p3', cell: (w) => (w.version ? bdi(w.version) : badge('old', 'is-paused'))},
    {name: 'knows', label: 'Settings', class: 'p3', cell: (w) => (w.knows ? 'read' : badge('behind', 'is-paused'))},
    {name: 'started', label: 'Up since', right: true, class: 'p2', cell: (w) => time(w.started_at)},
    {name: 'beat', label: 'Heard of', right: true, cell: (w) => h('span', {class: w.beat_ago > 15 ? 'bad-text' : ''}, `${Math.round(w.beat_ago)} s ago`)},
  ], {label: 'Workers', key: (w) => w.id, empty: () => blank('No worker runs.', 'nanoq work -- CMD starts one; tasks wait until then.')});
  const count = h('span', {class: 'muted', role: 'status'});
  const body = h('div');
  fill(root, heading('Workers', count), h('div', {class: 'card list'}, body));
  const poll = poller(body, () => api.get('workers'), (d) => {
    const all = d.workers;
    if (!list.root.isConnected) fill(body, list.root);
    list.update(all);
    count.textContent = all.length > 0 ? `${number(all.reduce((a, w) => a + w.running, 0))} of ${number(all.reduce((a, w) => a + w.concurrency, 0))} handlers at work` : '';
  });
  keys.bindView([['j', 'next row', () => list.step(1)], ['k', 'row before', () => list.step(-1)]]);
  return {destroy: poll.end};
}
