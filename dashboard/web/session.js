// SPDX-License-Identifier: MIT
// Who looks, and what they may do.
import * as api from './api.js';

export const session = {
  role: null,
  async read() {
    Object.assign(this, await api.get('session'));
    return this;
  },
  get mayChange() {
    return this.role === 'admin' && !this.read_only;
  },
};
