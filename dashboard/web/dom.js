// SPDX-License-Identifier: MIT
// Elements. Text from the database reaches the page through here alone, as text nodes: nothing is ever parsed as HTML.

// Characters that would move, hide or turn around what stands beside them are shown as what they are. \t and \n stay.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export function shown(text) {
  return String(text).replace(UNSEEN, (c) => {
    const n = c.charCodeAt(0);
    return n < 0x20 ? String.fromCharCode(0x2400 + n) : n === 0x7f ? '\u2421' : `\\u${n.toString(16).padStart(4, '0')}`;
  });
}

// h('a', {class: 'x', href: '#/tasks', onclick: f}, 'text', [more], null)
// Keys: class, text, on*, dataset; what else is true, false, null or text is an attribute. style and HTML are refused.
export function h(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) e.addEventListener(key.slice(2), value);
    else if (key === 'class') e.className = value;
    else if (key === 'text') e.textContent = shown(value);
    else if (key === 'value') e.value = value;
    else if (key === 'dataset') Object.assign(e.dataset, value);
    else if (key === 'href') e.setAttribute('href', String(value).startsWith('#') ? value : '#/');
    else if (key === 'style' || key === 'srcdoc' || key === 'src') throw new Error(`${key} is not to be set`);
    else e.setAttribute(key, value === true ? '' : shown(value));
  }
  add(e, children);
  return e;
}

export function add(parent, ...children) {
  for (const c of children.flat(Infinity))
    if (c !== null && c !== undefined && c !== false) parent.append(c instanceof Node ? c : shown(c));
  return parent;
}

export function fill(parent, ...children) {
  parent.replaceChildren();
  return add(parent, ...children);
}

// Text of the database within a line: its direction does not reach its neighbours.
export function bdi(text, cls) {
  return h('bdi', {class: cls, title: String(text).length > 40 ? text : null}, String(text));
}

const SVG = 'http://www.w3.org/2000/svg';
const PATHS = {
  overview: 'M2 13h3V8H2zm5 0h3V3H7zm5 0h2V6h-2z',
  tasks: 'M2 3.5h12M2 8h12M2 12.5h12',
  queues: 'M2.5 3h11v3h-11zm0 4.5h11v3h-11zM5 13h6',
  workers: 'M4 4h8v8H4zM6.5 1v3m3-3v3m-3 8v3m3-3v3M1 6.5h3m-3 3h3m8-3h3m-3 3h3',
  types: 'M8.5 2H14v5.5L7.5 14 2 8.5zM11 5h.01',
  schedules: 'M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zm0 3v3.2L10.5 10',
  doctor: 'M1.5 8.5H4l2-5 3.5 9 2-4h3',
  bulk: 'M2 2.5h8v8H2zM5 13.5h8.5V5',
  log: 'M4 2h8v12H4zM6 5h4M6 8h4m-4 3h2',
  search: 'M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.5 10.5 14 14',
  menu: 'M2 4h12M2 8h12M2 12h12',
};

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', 'icon');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

// Rows of a list by key: an element whose data is unchanged stays, so that focus, selection and a reader's place stay.
// The element of a changed one is replaced, and what had the focus in it (data-focus) has it in the new one.
export function rows(parent, items, key, build) {
  const old = new Map();
  for (const e of parent.children) old.set(e.dataset.key, e);
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const focusKey = focused?.closest('[data-key]')?.dataset.key;
  const focusName = focused?.closest('[data-focus]')?.dataset.focus;
  const next = items.map((item) => {
    const k = String(key(item));
    const signature = JSON.stringify(item);
    const have = old.get(k);
    if (have && have.signature === signature) return have;
    const e = build(item);
    e.dataset.key = k;
    e.signature = signature;
    return e;
  });
  let at = parent.firstChild;
  const kept = new Set(next);
  while (at) {
    const following = at.nextSibling;
    if (!kept.has(at)) at.remove();
    at = following;
  }
  next.forEach((e, i) => {
    if (parent.children[i] !== e) parent.insertBefore(e, parent.children[i] ?? null);
  });
  if (focused && !focused.isConnected && focusKey !== undefined) {
    const row = next.find((e) => e.dataset.key === focusKey);
    (row?.querySelector(`[data-focus="${focusName}"]`) ?? (focusName === row?.dataset.focus ? row : null))?.focus({preventScroll: true});
  }
}
