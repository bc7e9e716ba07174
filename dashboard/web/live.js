// SPDX-License-Identifier: MIT
// The stream of samples: one connection a page, none while the page is hidden or the reader paused it.
import {setNow} from './format.js';

const listeners = new Set();
let source = null;
let paused = false;
let retry = 0;
let last = null;
// "connecting", "live", "paused", "hidden", "down" (the database), "lost" (the dashboard itself)
let state = {name: 'connecting', since: Date.now(), error: ''};

function become(name, error = '') {
  if (state.name === name && state.error === error) return;
  state = {name, error, since: state.name === name ? state.since : Date.now()};
  document.dispatchEvent(new Event('livechange'));
}

export function status() {
  return state;
}
export function isPaused() {
  return paused;
}
// May views read by themselves just now?
export function mayRead() {
  return !paused && !document.hidden && state.name !== 'down';
}
export function sample() {
  return last;
}

// fn(sample) at each; the newest at once, if there is one. Answers how to end it.
export function listen(fn) {
  listeners.add(fn);
  if (last) fn(last);
  return () => listeners.delete(fn);
}

function close() {
  source?.close();
  source = null;
  clearTimeout(retry);
}

export function open() {
  close();
  if (paused) return become('paused');
  if (document.hidden) return become('hidden');
  if (state.name === 'paused' || state.name === 'hidden') become('connecting');
  source = new EventSource('api/v1/events');
  source.addEventListener('sample', (event) => {
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    last = data;
    setNow(data.now);
    become('live');
    for (const fn of listeners) fn(data);
  });
  source.addEventListener('down', (event) => {
    let data = {};
    try {
      data = JSON.parse(event.data);
    } catch {
      // As if nothing was said.
    }
    become('down', data.error ?? '');
  });
  source.onerror = () => {
    become('lost');
    // The browser tries again by itself unless it was refused.
    if (source?.readyState === EventSource.CLOSED) {
      close();
      retry = setTimeout(open, 3000);
      document.dispatchEvent(new Event('streamrefused'));
    }
  };
}

export function stop() {
  close();
}

export function setPaused(yes) {
  paused = yes;
  open();
}

document.addEventListener('visibilitychange', open);
