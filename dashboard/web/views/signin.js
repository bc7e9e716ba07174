// SPDX-License-Identifier: MIT
// Signing in with a token.
import * as api from '../api.js';
import {fill, h} from '../dom.js';
import {field} from '../overlay.js';

export function mount(root, done) {
  const token = h('input', {type: 'password', name: 'token', autocomplete: 'current-password', required: true, spellcheck: 'false'});
  const error = h('p', {class: 'error', role: 'alert', hidden: true});
  const form = h('form', {class: 'card signin', onsubmit: async (event) => {
    event.preventDefault();
    error.hidden = true;
    try {
      await api.post('login', {token: token.value});
      done();
    } catch (e) {
      error.textContent = e.status === 401 || e.status === 403 ? 'This token is not known.' : e.message;
      error.hidden = false;
      token.select();
    }
  }}, h('h1', null, 'nanoq'), field('Token', token, 'From the token file of this dashboard'), error, h('button', {type: 'submit', class: 'primary'}, 'Sign in'));
  fill(root, h('main', {id: 'main', tabindex: '-1', class: 'view-signin'}, form));
  token.focus();
}
