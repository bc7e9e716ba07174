// SPDX-License-Identifier: MIT
// Schedules: what comes next, what came, and steering them.
import * as api from '../api.js';
import {bdi, fill, h} from '../dom.js';
import {clock, time} from '../format.js';
import * as keys from '../keys.js';
import {act, badge, blank, button, failure, heading, loading, pauseQuestion, queueName} from '../parts.js';
import {dialog, note} from '../overlay.js';
import {poller} from '../poll.js';
import {link} from '../route.js';
import {session} from '../session.js';
import {table} from '../table.js';

export function mount(root, path, params) {
  const only = params.get('name');
  const list = table([
    {name: 'name', label: 'Schedule', header: true, class: 'grow', cell: (s) => [h('button', {type: 'button', class: 'linklike', dataset: {focus: 'open'}, onclick: () => details(s)}, bdi(s.name)), h('div', {class: 'under'}, h('bdi', {class: 'mono'}, s.spec), ' ', h('bdi', {class: 'muted'}, s.zone)), s.error && h('div', {class: 'under bad-text'}, h('bdi', {class: 'wrap'}, s.error)), s.state === 'paused' && s.paused_why && h('div', {class: 'under'}, h('bdi', {class: 'wrap'}, s.paused_why))]},
    {name: 'state', label: 'State', cell: (s) => badge(s.state, {active: 'is-running', paused: 'is-paused', error: 'is-dead'}[s.state] ?? 'is-other')},
    {name: 'task', label: 'Task', class: 'p2', cell: (s) => [bdi(s.type), h('div', {class: 'under'}, queueName(s.queue, s.group))]},
    {name: 'next', label: 'Next', right: true, cell: (s) => time(s.state === 'paused' ? null : s.next_at)},
    {name: 'last', label: 'Last', right: true, class: 'p2', cell: (s) => [time(s.last_at), s.task_id ? h('div', {class: 'under'}, 'task ', h('a', {href: link(['task', String(s.task_id)]), dataset: {focus: 'task'}}, String(s.task_id))) : null]},
    {name: 'act', label: 'Actions', class: 'actions-cell', cell: (s) => session.mayChange && h('span', {class: 'row-actions'},
      button('Run now', () => run(s), {focus: 'run', label: `Run now: ${s.name}`}),
      s.state === 'paused' ? button('Resume', () => resume(s), {focus: 'pause', label: `Resume ${s.name}`}) : button('Pause', () => pause(s), {focus: 'pause', label: `Pause ${s.name}`}))},
  ], {label: 'Schedules', key: (s) => s.name, empty: () => blank(only ? 'There is no such schedule.' : 'There are no schedules.', only ? '' : 'nanoq cron add creates one.')});
  const body = h('div');
  fill(root, heading('Schedules', only && h('a', {href: '#/schedules', class: 'button'}, 'All schedules')), h('div', {class: 'card list'}, body));
  const poll = poller(body, () => api.get('schedules'), (d) => {
    if (!list.root.isConnected) fill(body, list.root);
    list.update((d.schedules).filter((s) => !only || s.name === only));
  }, 5000);

  async function run(s) {
    let made = null;
    if (await act({title: `Run ${s.name} now?`, body: h('p', null, 'Its task comes once, out of turn, whether it is paused or not.'), label: 'Run now'}, async () => (made = await api.post('schedules/run', {name: s.name})), `${s.name}: its task has come`)) {
      if (made?.id) note(`Task ${made.id}`);
      poll.now();
    }
  }
  async function pause(s) {
    if (await pauseQuestion(s.name, (why) => api.post('schedules/pause', {name: s.name, why}))) {
      note(`${s.name} is paused`);
      poll.now();
    }
  }
  async function resume(s) {
    if (await act(null, () => api.post('schedules/resume', {name: s.name}), `${s.name} goes on`)) poll.now();
  }
  function details(s) {
    const next = h('ol', {class: 'plain-list'}, h('li', null, loading()));
    const came = h('div', null, loading());
    api.get('schedules/next', {name: s.name, n: 5}).then((d) => fill(next, (d.next).map((t) => h('li', null, time(t, true)))), (e) => fill(next, failure(e)));
    api.get('schedules/firings', {name: s.name, limit: 10}).then((d) => {
      const all = d.firings;
      fill(came, all.length === 0 ? h('p', {class: 'muted'}, 'None yet.') : h('ul', {class: 'plain-list'}, all.map((f) => h('li', null, clock(Date.parse(f.due_at)), ' ', f.task_id ? h('a', {href: link(['task', String(f.task_id)]), onclick: (event) => event.target.closest('dialog').close()}, `task ${f.task_id}`) : h('span', {class: 'muted'}, 'left out: the one before had not ended')))));
    }, (e) => fill(came, failure(e)));
    return dialog(s.name, [h('p', null, h('bdi', {class: 'mono'}, s.spec), ' ', h('bdi', null, s.zone), ', missed times: ', s.misfire, ', overlap: ', s.overlap), h('h3', null, 'Next'), next, h('h3', null, 'Last'), came,
      h('h3', null, 'Payload'), h('pre', {tabindex: '0', 'aria-label': 'Payload'}, s.payload ?? '')], [{label: 'Close', submit: true}], {class: 'wide'});
  }
  const press = (name) => () => list.current()?.querySelector(`[data-focus=${name}]`)?.click();
  keys.bindView([
    ['j', 'next row', () => list.step(1)],
    ['k', 'row before', () => list.step(-1)],
    ['o', 'details of the row', press('open')],
    ['e', 'run the row now', press('run')],
    ['z', 'pause or resume the row', press('pause')],
  ]);
  return {destroy: poll.end};
}
