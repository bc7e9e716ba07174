// SPDX-License-Identifier: MIT
// The frame around the views: navigation, the state of the stream, signing in, shortcuts.
import * as api from './api.js';
import {bdi, fill, h, icon} from './dom.js';
import {compact, duration, tick} from './format.js';
import * as keys from './keys.js';
import * as live from './live.js';
import {note} from './overlay.js';
import {failure} from './parts.js';
import {arrived} from './place.js';
import {go, link, parse} from './route.js';
import {session} from './session.js';
import * as settings from './settings.js';
import * as bulk from './views/bulk.js';
import * as doctor from './views/doctor.js';
import * as log from './views/log.js';
import * as overview from './views/overview.js';
import * as queues from './views/queues.js';
import * as schedules from './views/schedules.js';
import * as signin from './views/signin.js';
import * as task from './views/task.js';
import * as tasks from './views/tasks.js';
import * as types from './views/types.js';
import * as workers from './views/workers.js';

// path of the address, what it is called, the key behind g, its module
const VIEWS = [
  ['overview', 'Overview', 'o', overview],
  ['tasks', 'Tasks', 't', tasks],
  ['queues', 'Queues', 'q', queues],
  ['workers', 'Workers', 'w', workers],
  ['types', 'Types', 'y', types],
  ['schedules', 'Schedules', 's', schedules],
  ['doctor', 'Doctor', 'd', doctor],
  ['bulk', 'Bulk jobs', 'b', bulk],
  ['log', 'Action log', 'l', log],
];
const modules = new Map([...VIEWS.map(([name, title, , module]) => [name, {title, module}]), ['task', {title: 'Task', module: task}]]);

const app = document.getElementById('app');
const main = h('main', {id: 'main', tabindex: '-1'});
const nav = h('ul', {id: 'nav'});
const status = h('button', {type: 'button', class: 'status', id: 'status', onclick: () => live.setPaused(!live.isPaused())});
const banner = h('div', {class: 'banner', role: 'alert', hidden: true});
const menu = h('button', {type: 'button', class: 'menu plain', 'aria-expanded': 'false', 'aria-controls': 'nav', 'aria-label': 'Menu', onclick: () => showMenu()}, icon('menu'));
const where = h('p', {class: 'where'});
let view = null;
let current = null;
let first = true;

function showMenu(open = !app.classList.contains('open')) {
  app.classList.toggle('open', open);
  menu.setAttribute('aria-expanded', String(open));
}

function counted(name) {
  const totals = live.sample()?.totals;
  if (!totals) return '';
  if (name === 'tasks') return totals.dead > 0 ? compact(totals.dead) : '';
  return '';
}

const items = new Map(VIEWS.map(([name, title, key]) => {
  const count = h('span', {class: 'count', hidden: true});
  const anchor = h('a', {href: link([name]), title: `g ${key}`, dataset: {nav: name}}, icon(name), h('span', null, title), count);
  nav.append(h('li', null, anchor));
  return [name, {link: anchor, count}];
}));

function drawNav() {
  for (const [name, item] of items) {
    if (current === name || (current === 'task' && name === 'tasks')) item.link.setAttribute('aria-current', 'page');
    else item.link.removeAttribute('aria-current');
    const dead = counted(name);
    item.count.hidden = dead === '';
    item.count.textContent = dead;
    item.count.title = `${dead} dead`;
  }
}

function drawStatus() {
  const {name, error, since} = live.status();
  const words = {connecting: 'Connecting', live: 'Live', paused: 'Paused', hidden: 'Hidden', down: 'Database away', lost: 'No connection'};
  status.className = `status is-${name}`;
  status.setAttribute('aria-pressed', String(live.isPaused()));
  status.title = name === 'paused' ? 'Go on with live updates (p)' : 'Pause live updates (p)';
  fill(status, h('span', {class: 'dot', 'aria-hidden': 'true'}), words[name]);
  const bad = name === 'down' || name === 'lost';
  banner.hidden = !bad;
  if (bad) fill(banner, h('strong', null, name === 'down' ? 'The database is away' : 'The dashboard does not answer'), h('span', {dataset: {since: String(since)}}), `. ${name === 'down' ? 'What is shown is as it was before.' : 'It is tried again.'} `, error && h('span', {class: 'mono'}, error));
}

const THEMES = ['auto', 'light', 'dark'];
const theme = h('button', {type: 'button', class: 'plain', id: 'theme', onclick: () => nextTheme()});
function drawTheme() {
  const now = settings.theme();
  theme.textContent = {auto: '◐', light: '☀', dark: '☾'}[now];
  theme.setAttribute('aria-label', `Colours: ${now === 'auto' ? 'as the system' : now}. Change`);
  theme.title = `Colours: ${now === 'auto' ? 'as the system' : now}`;
}
function nextTheme() {
  settings.setTheme(THEMES[(THEMES.indexOf(settings.theme()) + 1) % THEMES.length]);
  drawTheme();
}

function frame() {
  const help = h('button', {type: 'button', class: 'plain', 'aria-label': 'Keyboard shortcuts', title: 'Keyboard shortcuts (?)', onclick: () => keys.help()}, '?');
  fill(app,
    h('header', {class: 'top'}, menu, h('a', {class: 'brand', href: '#/overview'}, h('span', {class: 'mark', 'aria-hidden': 'true'}), 'nanoq'), where, h('div', {class: 'right-tools'}, session.read_only && h('span', {class: 'badge is-other', title: 'Nothing can be changed here'}, 'read only'), status, theme, help, session.token && h('button', {type: 'button', class: 'plain', id: 'signout', onclick: leave}, 'Sign out'))),
    h('nav', {class: 'side', 'aria-label': 'Views'}, nav), banner, main);
  fill(where, bdi(session.database ?? ''));
  drawTheme();
  drawStatus();
}

async function leave() {
  try {
    await api.post('logout');
  } catch (e) {
    note(e.message, true);
  }
  location.reload();
}

function show() {
  const {path, params} = parse(location.hash);
  if (path.length === 0) return go('#/overview', true);
  showMenu(false);
  const before = arrived();
  const known = modules.get(path[0]);
  if (view && current === path[0] && view.navigate?.(path, params)) return drawNav();
  view?.destroy?.();
  keys.bindView([]);
  current = path[0];
  document.title = `${known ? known.title : 'Not found'} – nanoq`;
  drawNav();
  view = null;
  main.className = `view-${known ? path[0] : 'none'}`;
  if (!known) {
    fill(main, h('div', {class: 'empty'}, h('h1', {tabindex: '-1'}, 'There is no such view'), h('p', null, h('a', {href: '#/overview'}, 'To the overview'))));
  } else {
    fill(main);
    try {
      view = known.module.mount(main, path, params);
    } catch (e) {
      fill(main, failure(e));
      throw e;
    }
  }
  if (!first) main.querySelector('h1')?.focus({preventScroll: true});
  first = false;
  if (!before) scrollTo(0, 0);
}

async function start() {
  try {
    await session.read();
  } catch (e) {
    if (e.status === 401) return signin.mount(app, () => location.reload());
    fill(app, h('main', {id: 'main', tabindex: '-1'}, failure(e, () => location.reload())));
    setTimeout(start, 3000);
    return;
  }
  frame();
  live.open();
  live.listen(() => drawNav());
  addEventListener('hashchange', show);
  show();
}

document.addEventListener('livechange', drawStatus);
document.addEventListener('streamrefused', () => session.read().catch(() => {}));
document.addEventListener('signedout', () => {
  live.stop();
  if (session.role) location.reload();
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  document.getElementById('main')?.focus();
});
setInterval(() => {
  if (document.hidden) return;
  tick();
  const since = banner.querySelector('[data-since]');
  if (since) since.textContent = ` for ${duration(Math.round((Date.now() - Number(since.dataset.since)) / 1000))}`;
}, 1000);

keys.bindPage([
  ['?', 'this help', () => keys.help()],
  ...VIEWS.map(([name, title, key]) => [`g${key}`, title, () => go(link([name]))]),
  ['p', 'pause and resume live updates', () => live.setPaused(!live.isPaused())],
  ['T', 'colours: system, light, dark', () => nextTheme()],
]);
start();
