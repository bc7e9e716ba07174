// SPDX-License-Identifier: MIT
// One action for many tasks: first counted, then confirmed, then started.
import * as api from './api.js';
import {fill, h} from './dom.js';
import {number} from './format.js';
import {confirm, field, note} from './overlay.js';
import {asObject, words} from './filter.js';
import {link} from './route.js';

export const ACTIONS = {
  retry: ['Retry', 'Dead, cancelled and done tasks go back to waiting, attempts from zero; waiting ones become due.'],
  cancel: ['Cancel', 'Waiting tasks are taken out of their queue; running ones are told, and never run again.'],
  delete: ['Delete', 'They are gone, with their errors and results. This cannot be undone.'],
  move: ['Move', 'Waiting tasks go to another queue.'],
  priority: ['Set priority', 'Lower runs first.'],
};

// target: {ids: [...]} or {filter: URLSearchParams}. Answers whether something was started.
export async function bulkDialog(action, target) {
  const [verb, what] = ACTIONS[action];
  const everything = target.filter && [...target.filter].length === 0;
  const body = {action, ...(target.ids ? {ids: target.ids} : {filter: asObject(target.filter)}), ...(everything ? {all: true} : {})};
  const limit = h('input', {type: 'number', min: '1', step: '1', inputmode: 'numeric', placeholder: 'no limit'});
  const rate = h('input', {type: 'text', placeholder: 'a fifth of the time', pattern: '\\d+(/(s|m|h|\\d+(ms|s|m|h)))?', autocomplete: 'off'});
  const queue = h('input', {type: 'text', required: action === 'move', 'data-first': action === 'move', autocomplete: 'off'});
  const priority = h('input', {type: 'number', min: '-100', max: '100', step: '1', value: '0', required: true, 'data-first': action === 'priority'});
  const count = h('p', {class: 'dry', role: 'status'}, 'Counting…');
  const typed = h('input', {type: 'text', autocomplete: 'off', spellcheck: 'false', required: everything});
  const options = () => ({
    ...body,
    ...(limit.value ? {limit: Number(limit.value)} : {}),
    ...(rate.value.trim() ? {rate: rate.value.trim()} : {}),
    ...(action === 'move' ? {to_queue: queue.value.trim()} : {}),
    ...(action === 'priority' ? {priority: Number(priority.value)} : {}),
  });
  let serial = 0;
  async function dryRun() {
    const mine = ++serial;
    try {
      const d = await api.post('bulk', {...options(), ...(action === 'move' && !queue.value.trim() ? {to_queue: 'default'} : {}), dry_run: true});
      if (mine !== serial) return;
      fill(count, 'Dry run: ', h('strong', {dataset: {would: String(d.would)}}, `${number(d.would)}${d.capped ? '+' : ''} ${d.would === 1 ? 'task' : 'tasks'}`), ` would be ${{retry: 'retried', cancel: 'cancelled', delete: 'deleted', move: 'moved', priority: 'changed'}[action]}.`);
    } catch (e) {
      if (mine === serial) fill(count, h('span', {class: 'bad-text'}, e.message));
    }
  }
  limit.addEventListener('change', dryRun);
  dryRun();
  let job = null;
  const done = await confirm(`${verb} ${target.ids ? `${number(target.ids.length)} selected task${target.ids.length === 1 ? '' : 's'}` : 'tasks by filter'}`, [
    h('p', null, what),
    target.filter && h('p', null, 'Of: ', h('bdi', {class: 'mono'}, words(target.filter))),
    count,
    action === 'move' && field('To queue', queue),
    action === 'priority' && field('Priority', priority, '-100 to 100'),
    target.filter && h('div', {class: 'fields'}, field('At most', limit), field('Rate', rate, 'Such as 50/s')),
    everything && h('div', null, h('p', {class: 'bad-text'}, 'No filter is set: this is about every task.'), field('Type "all" to go on', typed)),
  ], verb, async () => {
    if (everything && typed.value.trim() !== 'all') throw new Error('Type "all" where it is asked for, or set a filter');
    job = await api.post('bulk', options());
  }, action === 'delete' || action === 'cancel');
  if (done) {
    note(job?.bulk ? `${verb}: bulk job ${job.bulk} has started` : `${verb}: done`);
    if (target.filter && job?.bulk) location.hash = link(['bulk']);
  }
  return done;
}
