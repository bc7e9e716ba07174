// SPDX-License-Identifier: MIT
// Which tasks: a form, and the part of the address that says the same.
import {fill, h, icon} from './dom.js';
import {field} from './overlay.js';
import {STATES} from './parts.js';
import {session} from './session.js';

// Names in the address and in the API: [name, label, kind, hint]
export const FIELDS = [
  ['queue', 'Queue', 'text', 'mail, or group 42 of it: mail//42'],
  ['type', 'Type', 'text', 'email, or all that begin so: email.*'],
  ['tag', 'Tag', 'text'],
  ['text', 'Payload or headers have', 'text'],
  ['error', 'Error has', 'text'],
  ['worker', 'Worker', 'text', 'host:pid'],
  ['id', 'Ids', 'text', '7,12'],
  ['since', 'Since', 'datetime-local'],
  ['until', 'Until', 'datetime-local'],
  ['by', 'Of these times', ['created', 'run_at', 'finished']],
];
const BY = {created: 'added', run_at: 'to run', finished: 'ended'};
const NAMES = [...FIELDS.map(([name]) => name), 'state'];
const LISTS = ['queue', 'group', 'type', 'state', 'tag', 'id'];

// What of an address is a filter.
export function filterOf(params) {
  const out = new URLSearchParams();
  for (const [name, value] of params) if (NAMES.includes(name) && value !== '') out.append(name, value);
  return out;
}

// As an object, for requests with a body: it means the same tasks. Of a name that is no list the last one counts.
export function asObject(filter) {
  const out = {};
  for (const name of NAMES) {
    const all = filter.getAll(name);
    if (all.length === 0) continue;
    out[name] = LISTS.includes(name) ? all : all.at(-1);
  }
  return out;
}

export function words(filter) {
  const parts = [...filter].map(([name, value]) => `${name} ${value}`);
  return parts.length > 0 ? parts.join(', ') : 'all tasks';
}

// "2026-01-31T12:00" of this browser's zone, and back.
function toLocal(iso) {
  const t = Date.parse(iso);
  if (!Number.isFinite(t)) return '';
  const d = new Date(t - new Date(t).getTimezoneOffset() * 60000);
  return d.toISOString().slice(0, 16);
}
function toIso(local) {
  const t = Date.parse(local);
  return Number.isFinite(t) ? new Date(t).toISOString() : '';
}

// changed(params): the reader asks for these tasks.
export function filterForm(changed) {
  // What is masked is not to be found out by searching for it: the server refuses that to viewers.
  const hidden = session.role !== 'admin' && session.mask?.length > 0 ? ['text', 'error'] : [];
  const inputs = new Map();
  const states = h('fieldset', {class: 'chips'}, h('legend', {class: 'unseen'}, 'State'), STATES.map((s) => {
    const box = h('input', {type: 'checkbox', name: 'state', value: s, id: `state-${s}`, onchange: () => submit()});
    return h('span', {class: 'chip'}, box, h('label', {for: `state-${s}`, class: `is-${s}`}, s));
  }));
  for (const [name, , kind] of FIELDS)
    inputs.set(name, Array.isArray(kind) ? h('select', {id: `filter-${name}`, name, onchange: () => submit()}, kind.map((v, i) => h('option', {value: i === 0 ? '' : v}, BY[v]))) : h('input', {type: kind === 'text' ? 'search' : kind, name, id: `filter-${name}`, autocomplete: 'off', spellcheck: 'false', onchange: kind === 'text' ? null : () => submit(), disabled: hidden.includes(name)}));
  const build = ([name, label, , hint]) => field(label, inputs.get(name), hint);
  const more = h('details', {class: 'more'}, h('summary', null, 'More filters'), h('div', {class: 'fields'}, FIELDS.filter(([n]) => !['queue', 'type', 'text'].includes(n)).map(build)));
  const active = h('ul', {class: 'active', 'aria-label': 'Filters in force'});
  const root = h('form', {class: 'filter', role: 'search', 'aria-label': 'Tasks', onsubmit: (event) => {
    event.preventDefault();
    submit();
  }}, states, h('div', {class: 'fields main'}, FIELDS.filter(([n]) => ['queue', 'type', 'text'].includes(n)).map(build), h('div', {class: 'field go'}, h('button', {type: 'submit', class: 'primary'}, icon('search'), 'Search'))), more, active);

  function submit() {
    const out = new URLSearchParams();
    for (const box of states.querySelectorAll('input')) if (box.checked) out.append('state', box.value);
    for (const [name, , kind] of FIELDS) {
      const value = kind === 'datetime-local' ? toIso(inputs.get(name).value) : inputs.get(name).value.trim();
      if (value) out.append(name, value);
    }
    changed(out);
  }
  return {
    root,
    focus: () => inputs.get('text').focus(),
    show(params) {
      const filter = filterOf(params);
      const chosen = filter.getAll('state');
      for (const box of states.querySelectorAll('input')) box.checked = chosen.includes(box.value);
      for (const [name, , kind] of FIELDS) {
        const value = filter.get(name) ?? '';
        const input = inputs.get(name);
        if (input !== document.activeElement || kind !== 'text') input.value = kind === 'datetime-local' ? toLocal(value) : value;
      }
      if (FIELDS.slice(2).some(([name]) => name !== 'text' && filter.has(name))) more.open = true;
      const list = [...filter].filter(([name]) => name !== 'state');
      fill(active, list.map(([name, value]) => {
        const rest = new URLSearchParams(filter);
        rest.delete(name);
        return h('li', null, h('button', {type: 'button', class: 'pill', 'aria-label': `Remove the filter ${name} ${value}`, onclick: () => changed(rest)}, `${name}: `, h('bdi', null, value), ' ×'));
      }), list.length + chosen.length > 0 && h('li', null, h('button', {type: 'button', class: 'plain', onclick: () => changed(new URLSearchParams())}, 'Clear all')));
    },
  };
}
