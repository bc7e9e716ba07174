// SPDX-License-Identifier: MIT
// Pieces that several views show.
import {bdi, h} from './dom.js';
import {duration, number} from './format.js';
import {confirm, field, note} from './overlay.js';
import {link} from './route.js';

export const STATES = ['waiting', 'running', 'done', 'dead', 'cancelled'];

export function badge(word, cls) {
  return h('span', {class: `badge ${cls ?? `is-${word}`}`}, word);
}

export function stateBadge(state) {
  return badge(state, STATES.includes(state) ? `is-${state}` : 'is-other');
}

export function taskLink(id) {
  return h('a', {href: link(['task', String(id)]), class: 'id', dataset: {focus: 'open'}}, String(id));
}

export function queueName(queue, group) {
  return bdi(group ? `${queue}//${group}` : queue);
}

export function heading(title, ...tools) {
  return h('header', {class: 'view-head'}, h('h1', {tabindex: '-1'}, title), h('div', {class: 'tools'}, tools));
}

export function button(label, run, options = {}) {
  return h('button', {type: 'button', class: options.class ?? '', title: options.title, disabled: options.disabled, 'aria-label': options.label, dataset: options.focus ? {focus: options.focus} : {}, onclick: run}, label);
}

export function failure(error, again) {
  return h('div', {class: 'empty failed', role: 'alert'}, h('p', null, error.status === 503 ? 'The database is away.' : 'This could not be read.'), h('p', {class: 'muted'}, error.message), again && button('Try again', again));
}

export function blank(title, text, ...more) {
  return [h('p', null, title), text && h('p', {class: 'muted'}, text), ...more];
}

export function loading() {
  return h('p', {class: 'loading', role: 'status'}, 'Loading…');
}

// A labelled value, of a list of facts.
export function fact(label, value, cls) {
  return h('div', {class: cls ?? null}, h('dt', null, label), h('dd', null, value ?? h('span', {class: 'none'}, '–')));
}

export function meter(done, total, label) {
  const known = total > 0;
  const share = known ? Math.max(0, Math.min(1, done / total)) : 0;
  const bar = h('progress', {max: known ? '1' : null, value: known ? share : undefined, 'aria-label': label});
  return h('span', {class: 'meter'}, bar, h('span', {class: 'num'}, known ? `${number(done)} / ${number(total)}` : done > 0 ? number(done) : ''));
}

export function spread(s) {
  return s && s.n > 0 ? [duration(s.p50), duration(s.p95), duration(s.p99)] : ['–', '–', '–'];
}

// Ask, do, say what became of it. Answers whether it was done.
export async function act(question, run, said) {
  const done = question ? await confirm(question.title, question.body, question.label, run, question.danger) : await run().then(() => true, (e) => {
    note(e.message, true);
    return false;
  });
  if (done) note(said);
  return done;
}

export function reasonField() {
  const input = h('input', {type: 'text', maxlength: '200', 'data-first': true, autocomplete: 'off'});
  return {input, root: field('Reason, for people', input, 'Shown wherever the pause is. May be empty.')};
}

export function pauseQuestion(what, run) {
  const why = reasonField();
  return confirm(`Pause ${what}?`, [h('p', null, 'Nothing of it starts any more, on any host, until it is resumed. What runs goes on.'), why.root], 'Pause', () => run(why.input.value.trim()), false);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    note(`${what} copied`);
  } catch {
    const area = h('textarea', {class: 'unseen', 'aria-hidden': 'true', value: text});
    document.body.append(area);
    area.select();
    const ok = document.execCommand('copy');
    area.remove();
    note(ok ? `${what} copied` : 'The browser does not allow copying', !ok);
  }
}
