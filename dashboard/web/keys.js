// SPDX-License-Identifier: MIT
// Shortcuts of single keys. They can be turned off (they are in the way of speech input), and never act while one types.
import {h} from './dom.js';
import {dialog} from './overlay.js';
import * as settings from './settings.js';

// Of the whole page, and of the view that is shown: [key, what it does, function]
const page = [];
let view = [];
let pending = '';
let timer = 0;

export function bindPage(list) {
  page.push(...list);
}

export function bindView(list) {
  view = list;
}

export function enabled() {
  return settings.get('shortcuts') !== 'off';
}

function typing(target) {
  return target instanceof Element && (target.matches('textarea, select, [contenteditable]') || (target.matches('input') && !['checkbox', 'radio', 'button'].includes(target.type)));
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector('dialog[open]')) return;
  if (typing(event.target)) {
    if (event.key === 'Escape') event.target.blur();
    return;
  }
  if (!enabled() || event.key.length > 1 && !['Delete'].includes(event.key)) return;
  const key = pending + event.key;
  clearTimeout(timer);
  pending = '';
  const found = [...view, ...page].find(([k]) => k === key) ?? [...view, ...page].find(([k]) => k === event.key);
  if (found) {
    event.preventDefault();
    found[2]();
  } else if ([...view, ...page].some(([k]) => k.length === 2 && k.startsWith(event.key))) {
    pending = event.key;
    timer = setTimeout(() => (pending = ''), 1500);
  }
});

export function help() {
  const list = (title, keys) => keys.length > 0 && h('section', null, h('h3', null, title), h('dl', {class: 'keys'}, keys.map(([k, what]) =>
    h('div', null, h('dt', null, (k === 'Delete' ? [k] : [...k]).map((c) => h('kbd', null, c))), h('dd', null, what)))));
  const on = h('input', {type: 'checkbox', id: 'shortcuts-on'});
  on.checked = enabled();
  on.addEventListener('change', () => settings.set('shortcuts', on.checked ? 'on' : 'off'));
  return dialog('Keyboard', [
    h('div', {class: 'columns'}, list('This view', view), list('Everywhere', page),
      h('section', null, h('h3', null, 'Lists'), h('dl', {class: 'keys'}, [['↑ ↓', 'row before, after'], ['Home End', 'first, last row'], ['Enter', 'open'], ['Space', 'select'], ['Esc', 'leave a field, close']].map(([k, what]) =>
        h('div', null, h('dt', null, k.split(' ').map((c) => h('kbd', null, c))), h('dd', null, what)))))),
    h('p', null, h('label', {class: 'check'}, on, ' Shortcuts of single keys are on')),
  ], [{label: 'Close', submit: true}], {class: 'wide'});
}
