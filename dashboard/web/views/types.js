// SPDX-License-Identifier: MIT
// Types of tasks: how many ended how, how long they waited and ran.
import * as api from '../api.js';
import {bdi, fill, h} from '../dom.js';
import {duration, number} from '../format.js';
import * as keys from '../keys.js';
import {blank, heading} from '../parts.js';
import {poller} from '../poll.js';
import {link} from '../route.js';
import {table} from '../table.js';

const WINDOWS = [['15m', '15 min'], ['1h', '1 h'], ['24h', '24 h'], ['7d', '7 d']];
const SORTS = {type: (t) => t.type, done: (t) => -t.done, failed: (t) => -(t.retried + t.dead), run: (t) => -(t.run_p95 ?? -1), wait: (t) => -(t.wait_p95 ?? -1)};

export function mount(root, path, params) {
  let asked = params;
  const shown = () => asked.get('window') ?? '1h';
  const sort = () => (SORTS[asked.get('sort')] ? asked.get('sort') : 'done');
  const to = (extra) => {
    const next = new URLSearchParams(asked);
    for (const [k, v] of Object.entries(extra)) next.set(k, v);
    return link(['types'], next);
  };
  const toggle = h('div', {class: 'segments', role: 'group', 'aria-label': 'Time'});
  const heads = new Map();
  const sorted = (name, label) => {
    const a = h('a', {href: to({sort: name})}, label);
    heads.set(name, a);
    return a;
  };
  const three = (t, what) => {
    const [p50, p95, p99, mean] = ['p50', 'p95', 'p99', 'mean'].map((p) => duration(t[`${what}_${p}`]));
    return t[`${what}_p50`] === null ? h('span', {class: 'none'}, '–') : h('span', {class: 'num', title: `half: ${p50}\n95 %: ${p95}\n99 %: ${p99}\nmean: ${mean}`}, `${p50} · ${p95} · ${p99}`);
  };
  const list = table([
    {name: 'type', head: sorted('type', 'Type'), header: true, class: 'grow', cell: (t) => h('a', {href: link(['tasks'], {type: t.type}), dataset: {focus: 'open'}}, bdi(t.type))},
    {name: 'done', head: sorted('done', 'Done'), right: true, cell: (t) => number(t.done)},
    {name: 'retried', head: sorted('failed', 'Retried'), right: true, cell: (t) => number(t.retried)},
    {name: 'dead', label: 'Dead', right: true, cell: (t) => (t.dead > 0 ? h('a', {class: 'bad-text', href: link(['tasks'], {type: t.type, state: 'dead'}), dataset: {focus: 'dead'}}, number(t.dead)) : '0')},
    {name: 'share', label: 'Fail', right: true, class: 'p2', cell: (t) => { const n = t.done + t.retried + t.dead; return n > 0 ? `${(100 * (t.retried + t.dead) / n).toFixed(1)} %` : '–'; }},
    {name: 'wait', head: sorted('wait', 'Waited, half · 95 % · 99 %'), right: true, class: 'p3', cell: (t) => three(t, 'wait')},
    {name: 'run', head: sorted('run', 'Ran, half · 95 % · 99 %'), right: true, class: 'p2', cell: (t) => three(t, 'run')},
  ], {label: 'Types', key: (t) => t.type, empty: () => blank('Nothing ended in this time.', 'Workers tell what they did every 10 s.')});
  const body = h('div');
  fill(root, heading('Types', toggle), h('div', {class: 'card list'}, body));
  function marks() {
    fill(toggle, WINDOWS.map(([name, label]) => h('a', {href: to({window: name}), 'aria-current': name === shown() ? 'true' : null}, label)));
    for (const [name, a] of heads) {
      a.setAttribute('href', to({sort: name}));
      const th = a.closest('th');
      if (name === sort()) th.setAttribute('aria-sort', name === 'type' ? 'ascending' : 'descending');
      else th.removeAttribute('aria-sort');
    }
  }
  const poll = poller(body, () => api.get('types', {window: shown()}), (d) => {
    const by = SORTS[sort()];
    if (!list.root.isConnected) fill(body, list.root);
    list.update([...(d.types)].sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0)));
  }, 10000);
  marks();
  keys.bindView([['j', 'next row', () => list.step(1)], ['k', 'row before', () => list.step(-1)]]);
  return {
    navigate(p, next) {
      asked = next;
      marks();
      poll.now();
      return true;
    },
    destroy: poll.end,
  };
}
