// SPDX-License-Identifier: MIT
// A view that reads again and again: not while the page is hidden, updates are paused, or the database is away.
import {fill} from './dom.js';
import * as live from './live.js';
import {failure, loading} from './parts.js';

// read() answers data, draw(data) shows it in `body`, which shows the failure where there is nothing yet.
export function poller(body, read, draw, interval = 3000) {
  let ended = false;
  let timer = 0;
  let serial = 0;
  let filled = false;
  fill(body, loading());
  async function now() {
    clearTimeout(timer);
    const mine = ++serial;
    try {
      const data = await read();
      if (ended || mine !== serial) return;
      if (!filled) body.replaceChildren();
      filled = true;
      draw(data);
    } catch (e) {
      if (ended || mine !== serial) return;
      if (!filled) fill(body, failure(e, now));
    }
    if (interval > 0) timer = setTimeout(again, interval);
  }
  function again() {
    if (ended) return;
    if (!live.mayRead()) timer = setTimeout(again, 1000);
    else now();
  }
  now();
  return {
    now,
    reset() {
      filled = false;
      fill(body, loading());
      now();
    },
    end() {
      ended = true;
      clearTimeout(timer);
    },
  };
}
