// SPDX-License-Identifier: MIT
// Doctor: what should be looked at, and what to do.
import * as api from '../api.js';
import {fill, h} from '../dom.js';
import {badge, button, heading} from '../parts.js';
import {poller} from '../poll.js';

const CLASS = {ok: 'is-done', warning: 'is-retry', error: 'is-dead', unknown: 'is-other', 'not applicable': 'is-other'};
const WORST = ['error', 'warning', 'unknown', 'ok', 'not applicable'];

export function mount(root) {
  const body = h('div');
  const summary = h('p', {class: 'summary', role: 'status'});
  fill(root, heading('Doctor', button('Check again', () => poll.now())), summary, body);
  const item = (c) => h('li', {class: 'card check', dataset: {level: c.level}}, h('div', {class: 'check-head'}, h('span', {class: 'num muted'}, String(c.check)), badge(c.level, CLASS[c.level] ?? 'is-other'), h('strong', null, c.name)), h('p', null, h('bdi', {class: 'wrap'}, c.found)), c.todo && h('p', {class: 'todo'}, h('bdi', {class: 'wrap'}, c.todo)));
  const poll = poller(body, () => api.get('doctor'), (d) => {
    const all = [...(d.checks)].sort((a, b) => WORST.indexOf(a.level) - WORST.indexOf(b.level));
    const n = (level) => all.filter((c) => c.level === level).length;
    const plural = (level) => `${n(level)} ${level}${n(level) === 1 ? '' : 's'}`;
    const bad = all.filter((c) => c.level === 'error' || c.level === 'warning' || c.level === 'unknown');
    const open = body.querySelector('details')?.open ?? false;
    fill(summary, bad.length === 0 ? 'All is well. ' : '', `${plural('error')}, ${plural('warning')}, ${n('ok')} ok, ${n('unknown')} unknown, ${n('not applicable')} not applicable`);
    fill(body, bad.length > 0 && h('ul', {class: 'checks'}, bad.map(item)), h('details', {open}, h('summary', null, `What is ok, or not applicable (${all.length - bad.length})`), h('ul', {class: 'checks'}, all.filter((c) => !bad.includes(c)).map(item))));
  }, 0);
  return {destroy: poll.end};
}
