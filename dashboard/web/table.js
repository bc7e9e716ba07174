// SPDX-License-Identifier: MIT
// Tables of rows: headings, live replacement, and going through them by the arrow keys.
import {add, fill, h, rows} from './dom.js';

// columns: [{name, label, right, class, cell: (item) => node, text or array}]. options: label (for screen readers),
// key: (item) => id, empty: what to say when there are none, row: (tr, item) => done with each new row.
export function table(columns, options) {
  const body = h('tbody');
  const head = h('tr', null, columns.map((c) => h('th', {scope: 'col', class: classOf(c)}, c.head ?? c.label)));
  const grid = h('table', {class: options.class ?? ''}, h('caption', {class: 'unseen'}, options.label), h('thead', null, head), body);
  const empty = h('div', {class: 'empty', hidden: true});
  const scroll = h('div', {class: 'scroll', role: 'region', 'aria-label': options.label, tabindex: '0'}, grid);
  const root = h('div', {class: 'table'}, scroll, empty);
  let active = null;

  function build(item) {
    const tr = h('tr', null, columns.map((c, i) => add(h(c.header ? 'th' : 'td', {class: classOf(c), scope: c.header ? 'row' : null, dataset: {column: c.name ?? String(i)}}), c.cell(item))));
    options.row?.(tr, item);
    return tr;
  }
  // One row's controls are in the order of Tab, the others' are reached by the arrows.
  function rove() {
    const all = [...body.children];
    const now = all.find((tr) => tr.contains(document.activeElement));
    if (now) active = now.dataset.key;
    const current = all.find((tr) => tr.dataset.key === active) ?? all[0];
    for (const tr of all)
      for (const e of tr.querySelectorAll('a, button, input')) {
        const want = tr === current ? 0 : -1;
        if (e.tabIndex !== want) e.tabIndex = want;
      }
  }
  function move(to) {
    const all = [...body.children];
    const tr = all[Math.max(0, Math.min(all.length - 1, to))];
    if (!tr) return;
    active = tr.dataset.key;
    rove();
    const column = document.activeElement?.closest('td, th')?.dataset.column;
    (tr.querySelector(`[data-column="${column}"] :is(a, button, input)`) ?? tr.querySelector('a') ?? tr.querySelector('button, input'))?.focus();
  }
  function place() {
    const all = [...body.children];
    const at = all.findIndex((tr) => tr.contains(document.activeElement));
    return at >= 0 ? at : all.findIndex((tr) => tr.dataset.key === active);
  }
  body.addEventListener('focusin', rove);
  body.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = {ArrowDown: 1, ArrowUp: -1, Home: -1e9, End: 1e9};
    if (!(event.key in steps) || event.target.matches('input:not([type=checkbox]), select')) return;
    event.preventDefault();
    move(place() + steps[event.key]);
  });

  return {
    root,
    body,
    update(items) {
      rows(body, items, options.key, build);
      empty.hidden = items.length > 0;
      scroll.hidden = items.length === 0;
      if (items.length === 0) fill(empty, typeof options.empty === 'function' ? options.empty() : options.empty);
      rove();
    },
    step(by) {
      const has = [...body.children].some((tr) => tr.contains(document.activeElement));
      move(has ? place() + by : Math.max(0, place()));
    },
    current() {
      return [...body.children].find((tr) => tr.contains(document.activeElement)) ?? null;
    },
  };
}

function classOf(c) {
  return [c.right && 'right', c.class].filter(Boolean).join(' ') || null;
}
