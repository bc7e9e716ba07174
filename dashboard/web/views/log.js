// SPDX-License-Identifier: MIT
// Action log: who changed what through this dashboard.
import * as api from '../api.js';
import {bdi, fill, h} from '../dom.js';
import {time} from '../format.js';
import {badge, blank, heading} from '../parts.js';
import {poller} from '../poll.js';
import {table} from '../table.js';

export function mount(root) {
  const list = table([
    {name: 'at', label: 'When', header: true, cell: (l) => time(l.at)},
    {name: 'who', label: 'Who', class: 'p1', cell: (l) => bdi(l.who ?? '')},
    {name: 'action', label: 'Action', cell: (l) => h('strong', null, bdi(l.action))},
    {name: 'what', label: 'What', class: 'grow', cell: (l) => [h('bdi', {class: 'wrap'}, l.what ?? ''), h('div', {class: 'only-narrow under'}, 'by ', bdi(l.who ?? ''))]},
    {name: 'result', label: 'Outcome', cell: (l) => (l.result === 'ok' ? badge('ok', 'is-done') : h('bdi', {class: 'bad-text wrap'}, l.result ?? ''))},
  ], {label: 'Actions', key: (l) => l.id, empty: () => blank('Nothing was changed through this dashboard yet.')});
  const body = h('div');
  fill(root, heading('Action log'), h('div', {class: 'card list'}, body));
  const poll = poller(body, () => api.get('log', {limit: 200}), (d) => {
    if (!list.root.isConnected) fill(body, list.root);
    list.update(d.log);
  });
  return {destroy: poll.end};
}
