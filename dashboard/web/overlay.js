// SPDX-License-Identifier: MIT
// What stands over the page: dialogs and short notes.
import {add, h} from './dom.js';

// The notes' region: read out by screen readers when something is added.
const region = h('div', {class: 'notes', role: 'status', 'aria-live': 'polite'});

export function note(text, bad) {
  if (!region.isConnected) document.body.append(region);
  const close = h('button', {type: 'button', class: 'plain', 'aria-label': 'Close this note', onclick: () => e.remove()}, '×');
  const e = h('div', {class: `note ${bad ? 'bad' : 'good'}`}, h('span', null, text), close);
  region.append(e);
  while (region.children.length > 4) region.firstChild.remove();
  setTimeout(() => e.remove(), bad ? 15000 : 6000);
}

let count = 0;

// A modal dialog. body: nodes; actions: [{label, class, value, run}], run may answer false or a promise of it: it stays open.
// The promise has the value of what was chosen, null where it was closed.
export function dialog(title, body, actions, options = {}) {
  return new Promise((resolve) => {
    const id = `dialog-${++count}`;
    const back = document.activeElement;
    let chosen = null;
    const error = h('p', {class: 'error', role: 'alert', hidden: true});
    const buttons = actions.map((a) => h('button', {type: a.submit ? 'submit' : 'button', class: a.class ?? '', onclick: a.submit ? null : () => act(a)}, a.label));
    const form = h('form', {method: 'dialog', onsubmit: (event) => {
      event.preventDefault();
      const a = actions.find((x) => x.submit);
      if (a) act(a);
    }}, h('h2', {id}, title), h('div', {class: 'dialog-body'}, body), error, h('div', {class: 'actions'}, buttons));
    const box = h('dialog', {'aria-labelledby': id, class: options.class ?? ''}, form);
    async function act(a) {
      error.hidden = true;
      if (a.run) {
        for (const b of buttons) b.disabled = true;
        try {
          if ((await a.run()) === false) return;
        } catch (e) {
          error.textContent = e.message;
          error.hidden = false;
          return;
        } finally {
          for (const b of buttons) b.disabled = false;
        }
      }
      chosen = a.value ?? a.label;
      box.close();
    }
    box.addEventListener('click', (event) => {
      if (event.target === box) box.close();
    });
    box.addEventListener('close', () => {
      box.remove();
      options.closed?.();
      if (back?.isConnected) back.focus();
      resolve(chosen);
    });
    document.body.append(box);
    box.showModal();
    (box.querySelector('[data-first]') ?? buttons.find((b) => b.type === 'submit') ?? buttons[0])?.focus();
  });
}

// A question with a sentence or nodes: true where it was answered with `label`.
export async function confirm(title, body, label, run, danger) {
  const chosen = await dialog(title, body, [
    {label: 'Back', value: null},
    {label, submit: true, class: danger ? 'danger' : 'primary', value: 'yes', run},
  ]);
  return chosen === 'yes';
}

export function field(label, input, hint) {
  const id = input.id || (input.id = `field-${++count}`);
  const e = h('div', {class: 'field'}, h('label', {for: id}, label), input);
  if (hint) {
    const hintId = `${id}-hint`;
    input.setAttribute('aria-describedby', hintId);
    add(e, h('small', {id: hintId}, hint));
  }
  return e;
}
