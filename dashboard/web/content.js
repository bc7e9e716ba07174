// SPDX-License-Identifier: MIT
// Bytes of tasks: pretty where they are JSON, as text, or as a hex dump.
import {fill, h} from './dom.js';
import {bytes, hexdump} from './format.js';
import {copy} from './parts.js';

export function decode(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

// Indented JSON whose numbers and repeated names stay as they are written: JSON.parse would change 1e400 and 12345678901234567890.
export function pretty(text) {
  JSON.parse(text);
  let out = '';
  let depth = 0;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  for (let i = 0; i < tokens.length; i++) {
    const t = tokens[i];
    const end = () => `\n${'  '.repeat(depth)}`;
    if (t === '{' || t === '[') {
      if (tokens[i + 1] === '}' || tokens[i + 1] === ']') {
        out += t + tokens[++i];
      } else {
        depth++;
        out += t + end();
      }
    } else if (t === '}' || t === ']') {
      depth--;
      out += end() + t;
    } else if (t === ',') out += t + end();
    else if (t === ':') out += ': ';
    else out += t;
  }
  return out;
}

// Tabs of how to see it. value: text, or base64 where encoding says so; size: its whole size.
export function content(label, value, encoding, size, masked) {
  const text = encoding === 'base64' ? null : value;
  const data = text === null ? decode(value) : new TextEncoder().encode(text);
  let nice = null;
  if (text) {
    try {
      nice = pretty(text);
    } catch {
      // No JSON.
    }
  }
  const ways = [nice !== null && ['pretty', 'Pretty', nice], text !== null && ['text', 'Text', text], ['hex', 'Hex', null]].filter(Boolean);
  const pre = h('pre', {tabindex: '0', 'aria-label': label, dataset: {content: label.toLowerCase()}});
  const buttons = ways.map(([name, title, way]) => h('button', {type: 'button', 'aria-pressed': 'false', dataset: {way: name}, onclick: () => see(name, way)}, title));
  function see(name, way) {
    for (const b of buttons) b.setAttribute('aria-pressed', String(b.dataset.way === name));
    fill(pre, data.length === 0 ? h('span', {class: 'muted'}, '(empty)') : way ?? hexdump(data));
  }
  see(ways[0][0], ways[0][2]);
  return h('section', {class: 'card'}, h('header', null, h('h2', null, label), h('span', {class: 'muted'}, bytes(size ?? data.length)), masked && h('span', {class: 'badge is-paused', title: 'Values of keys that are not to be seen are shown as ***'}, 'masked'),
    h('div', {class: 'segments', role: 'group', 'aria-label': `${label}: how`}, buttons), text && h('button', {type: 'button', class: 'plain', onclick: () => copy(text, label)}, 'Copy')), pre);
}
