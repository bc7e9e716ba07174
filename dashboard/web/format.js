// SPDX-License-Identifier: MIT
// Numbers, durations and times, for people.
import {h} from './dom.js';

const whole = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1});

export const NONE = '–';

export function number(n) {
  return n === null || n === undefined ? NONE : whole.format(n);
}

export function compact(n) {
  return n === null || n === undefined ? NONE : n < 10000 ? whole.format(n) : short.format(n);
}

export function rate(perSecond) {
  if (perSecond === null || perSecond === undefined || !Number.isFinite(perSecond)) return NONE;
  const digits = perSecond >= 100 || perSecond === 0 ? 0 : perSecond >= 1 ? 1 : 2;
  return perSecond.toFixed(digits);
}

// Seconds as "1.2 ms", "3.4 s", "5 min 2 s", "3 h 7 min", "2 d 4 h".
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const s = Math.abs(seconds);
  const sign = seconds < 0 ? '-' : '';
  if (s === 0) return '0 s';
  if (s < 0.001) return `${sign}${(s * 1e6).toFixed(0)} µs`;
  if (s < 1) return `${sign}${(s * 1e3).toFixed(s < 0.01 ? 1 : 0)} ms`;
  if (s < 60) return `${sign}${s < 10 ? s.toFixed(1).replace(/\.0$/, '') : s.toFixed(0)} s`;
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = parts.findIndex(([size]) => s >= size);
  const [size, unit] = parts[first];
  const n = Math.floor(s / size);
  const rest = first + 1 < parts.length ? Math.floor((s - n * size) / parts[first + 1][0]) : 0;
  return `${sign}${n} ${unit}${rest ? ` ${rest} ${parts[first + 1][1]}` : ''}`;
}

// "3 min ago", "in 2 h": by the database's clock, which the samples bring along.
let skew = 0;
export function setNow(iso) {
  const t = Date.parse(iso);
  if (Number.isFinite(t)) skew = t - Date.now();
}
export function now() {
  return Date.now() + skew;
}

// One unit is enough of three or more.
function coarse(s) {
  if (s < 180) return duration(Math.round(s));
  const [size, unit] = s < 10800 ? [60, 'min'] : s < 259200 ? [3600, 'h'] : [86400, 'd'];
  return `${Math.round(s / size)} ${unit}`;
}

export function relative(t) {
  const s = (t - now()) / 1000;
  if (Math.abs(s) < 1) return 'now';
  const d = coarse(Math.abs(s));
  return s < 0 ? `${d} ago` : `in ${d}`;
}

const absolute = new Intl.DateTimeFormat('en-GB', {year: 'numeric', month: 'short', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false});
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'local time';
const MAX = 8.64e15;

export function clock(t) {
  return absolute.format(t);
}

// A <time>: how long ago, kept so by tick(); the whole of it in its title. full: the other way round.
export function time(iso, full) {
  const t = iso ? Date.parse(iso) : NaN;
  if (!Number.isFinite(t) || Math.abs(t) > MAX) return iso ? h('span', null, String(iso)) : h('span', {class: 'none'}, NONE);
  const e = h('time', {datetime: iso, title: `${clock(t)} ${zone}\n${iso}`}, full ? `${clock(t)} (${relative(t)})` : relative(t));
  e.dataset.t = t;
  if (full) e.dataset.full = '1';
  return e;
}

export function tick() {
  for (const e of document.querySelectorAll('time[data-t]')) {
    const t = Number(e.dataset.t);
    const text = e.dataset.full ? `${clock(t)} (${relative(t)})` : relative(t);
    if (e.textContent !== text) e.textContent = text;
  }
}

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  return n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`;
}

// Bytes as a hex dump: offset, 16 bytes, text.
export function hexdump(data) {
  const lines = [];
  for (let at = 0; at < data.length; at += 16) {
    const part = [...data.subarray(at, at + 16)];
    const hex = part.map((b) => b.toString(16).padStart(2, '0'));
    const text = part.map((b) => (b >= 0x20 && b < 0x7f ? String.fromCharCode(b) : '.')).join('');
    lines.push(`${at.toString(16).padStart(8, '0')}  ${hex.slice(0, 8).join(' ').padEnd(23)}  ${hex.slice(8).join(' ').padEnd(23)}  ${text}`);
  }
  return lines.join('\n');
}
