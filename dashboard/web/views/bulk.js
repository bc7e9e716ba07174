// SPDX-License-Identifier: MIT
// Bulk jobs: what was asked of many tasks at once, and how far it is.
import * as api from '../api.js';
import {bdi, fill, h} from '../dom.js';
import {number, time} from '../format.js';
import {act, badge, blank, button, heading, meter} from '../parts.js';
import {poller} from '../poll.js';
import {link} from '../route.js';
import {session} from '../session.js';
import {table} from '../table.js';

function about(job) {
  if (job.ids) return `${number(job.ids)} selected`;
  const parts = Object.entries(job.filter ?? {}).map(([k, v]) => `${k} ${Array.isArray(v) ? v.join(', ') : v}`);
  return parts.length > 0 ? parts.join(', ') : 'all tasks';
}

export function mount(root) {
  const list = table([
    {name: 'id', label: 'Job', header: true, cell: (j) => String(j.id)},
    {name: 'action', label: 'Action', cell: (j) => h('strong', null, j.action)},
    {name: 'about', label: 'Of', class: 'grow', cell: (j) => [h('bdi', {class: 'clip'}, about(j)), j.error && h('div', {class: 'under bad-text'}, h('bdi', {class: 'wrap'}, j.error))]},
    {name: 'state', label: 'State', cell: (j) => badge(j.state, {running: 'is-running', done: 'is-done', failed: 'is-dead', stopped: 'is-cancelled'}[j.state] ?? 'is-other')},
    {name: 'progress', label: 'Done', cell: (j) => [meter(j.done, j.state === 'done' ? j.done : j.total, 'Progress'), j.skipped > 0 && h('div', {class: 'under'}, `${number(j.skipped)} left alone`)]},
    {name: 'who', label: 'Who', class: 'p3', cell: (j) => bdi(j.who ?? '')},
    {name: 'when', label: 'Started', right: true, class: 'p2', cell: (j) => time(j.started_at)},
    {name: 'act', label: 'Actions', class: 'actions-cell', cell: (j) => session.mayChange && j.state === 'running' && button('Stop', () => stop(j), {focus: 'stop', label: `Stop job ${j.id}`})},
  ], {label: 'Bulk jobs', key: (j) => j.id, empty: () => blank('No bulk job has run since the dashboard was started.', '', h('p', null, h('a', {href: link(['tasks'])}, 'Choose tasks'), ' to retry, cancel, delete or move.'))});
  const body = h('div');
  fill(root, heading('Bulk jobs'), h('div', {class: 'card list'}, body));
  const poll = poller(body, () => api.get('bulk'), (d) => {
    if (!list.root.isConnected) fill(body, list.root);
    list.update(d.jobs);
  }, 1000);
  async function stop(j) {
    if (await act({title: `Stop job ${j.id}?`, body: h('p', null, 'What it has done stays done.'), label: 'Stop'}, () => api.post(`bulk/${api.part(String(j.id))}/stop`), `Job ${j.id} stops`)) poll.now();
  }
  return {destroy: poll.end};
}
