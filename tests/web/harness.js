// SPDX-License-Identifier: MIT
// What the browser tests share: a database with tasks of every kind, the dashboard on it, a browser that tells of each fault.
import assert from 'node:assert/strict';
import {execFileSync, spawn} from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {chromium} from 'playwright-core';

const NANOQ = path.resolve(process.env.NANOQ ?? 'build-test/nanoq');
const DASHBOARD = path.resolve(process.env.NANOQ_DASHBOARD ?? 'build-test/nanoq-dashboard');
export const AXE = fs.readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
export const VIEWS = ['overview', 'tasks', 'queues', 'workers', 'types', 'schedules', 'doctor', 'bulk', 'log'];

const dirs = [];
const children = new Set();

function ended(child) {
  return child.exitCode !== null || child.signalCode !== null;
}

// Wait for something that comes by itself, with a limit.
export async function until(what, fn, limit = 30000) {
  const end = Date.now() + limit;
  let last;
  for (;;) {
    try {
      last = await fn();
      if (last) return last;
    } catch (e) {
      last = e;
    }
    if (Date.now() > end) assert.fail(`${what}: not within ${limit} ms (${last instanceof Error ? last.message : JSON.stringify(last)})`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

export class Database {
  constructor(url) {
    this.dir = fs.mkdtempSync(path.join(process.env.TMPDIR ?? os.tmpdir(), 'nanoq-web.'));
    dirs.push(this.dir);
    this.file = path.join(this.dir, 'shop.db');
    this.url = url ?? 'sqlite:shop.db';
    this.env = {...Object.fromEntries(Object.entries(process.env).filter(([k]) => !k.startsWith('NANOQ'))), NANOQ_DB: this.url, HOME: this.dir};
    this.nanoq('migrate');
  }
  // The tool's answer; input: what it reads. An exit code of its own is an error.
  nanoq(...args) {
    return execFileSync(NANOQ, args, {env: this.env, cwd: this.dir, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], timeout: 60000});
  }
  // The same, of tasks that are meant to fail: the exit code says so.
  failing(...args) {
    try {
      this.nanoq(...args);
    } catch (e) {
      assert.equal(e.status, 5, e.stderr);
    }
  }
  json(...args) {
    return JSON.parse(this.nanoq(...args, '--format', 'json'));
  }
  show(id) {
    const shown = this.json('show', String(id));
    return Array.isArray(shown) ? shown[0] : shown;
  }
  lines(list) {
    return execFileSync(NANOQ, ['add', '--stdin'], {env: this.env, cwd: this.dir, input: list.map((l) => JSON.stringify(l)).join('\n') + '\n', encoding: 'utf8', timeout: 60000}).trim().split('\n').map(Number);
  }
  sql(text) {
    return execFileSync('sqlite3', ['-cmd', '.timeout 20000', this.file], {input: text, encoding: 'utf8', timeout: 60000});
  }
  // A worker that goes on until stop().
  work(...args) {
    const child = spawn(NANOQ, ['work', '--quiet', ...args], {env: this.env, stdio: 'ignore', cwd: this.dir});
    children.add(child);
    return child;
  }
}

export async function stop(child) {
  children.delete(child);
  if (ended(child)) return;
  const gone = new Promise((r) => child.once('exit', r));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
  await gone;
  clearTimeout(timer);
}

// The dashboard on a port of its choice: {url, child}.
export async function dashboard(db, ...args) {
  const child = spawn(DASHBOARD, ['--db', db.url, '--listen', '127.0.0.1:0', ...args], {env: db.env, stdio: ['ignore', 'pipe', 'pipe'], cwd: db.dir});
  children.add(child);
  let said = '';
  child.stdout.on('data', (d) => (said += d));
  child.stderr.on('data', (d) => (said += d));
  const found = await until('the dashboard says where it listens', () => {
    if (ended(child)) throw new Error(`it ended: ${said}`);
    return /https?:\/\/[^\s/]+/.exec(said);
  });
  const url = `${found[0]}/`;
  // Whether this build of the server can do it: 501 says that it cannot.
  const has = async (address, init) => (await fetch(`${url}api/v1/${address}`, init)).status !== 501;
  const hasBulk = await has('bulk', {method: 'POST', headers: {'Content-Type': 'application/json', 'X-Nanoq-Request': '1', Origin: found[0], 'Sec-Fetch-Site': 'same-origin'}, body: '{"action": "retry", "ids": [1], "dry_run": true}'});
  return {url, child, said: () => said, hasBulk};
}

// Tasks of every state, queues of every kind. Answers ids by what they are.
export function seed(db) {
  const ids = {};
  const add = (name, spec) => (ids[name] = db.lines([spec])[0]);
  add('dead', {type: 'webhook.deliver', queue: 'hooks', payload: {to: 'https://example.org/a', n: 1}, max_retries: 1, headers: {traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'}, tags: ['vip']});
  for (let i = 0; i < 4; i++) add(`dead${i}`, {type: 'webhook.deliver', queue: 'hooks', payload: {n: i}, max_retries: 0, unique: false});
  add('done', {type: 'report.monthly', queue: 'reports', payload: {month: '2026-10'}, keep: '1h'});
  db.nanoq('work', '--drain', '--quiet', '--result', '-q', 'reports', '--', 'sh', '-c', 'printf "{\\"rows\\": 12345678901234567890}"');
  db.failing('work', '--drain', '--quiet', '-q', 'hooks', '--', 'sh', '-c', 'echo "HTTP 502 from upstream" >&2; exit 1');
  db.nanoq('retry', String(ids.dead));
  db.failing('work', '--drain', '--quiet', '-q', 'hooks', '--', 'sh', '-c', 'echo "HTTP 502 from upstream" >&2; exit 65');
  add('waiting', {type: 'email.welcome', queue: 'mail', payload: {to: 'ada@example.org', password: 'sesame', nested: {token: 't0p'}}});
  add('grouped', {type: 'email.invoice', queue: 'mail', group: '42', payload: {to: 'grace@example.org'}, tags: ['eu', 'vip'], priority: 5});
  add('later', {type: 'image.resize', queue: 'images', payload: [1, 2, 3], in: '3h'});
  add('text', {type: 'note', payload_text: 'no JSON: \u00e4\n', in: '1h'});
  add('cancelled', {type: 'image.resize', queue: 'images', payload: [4]});
  db.nanoq('cancel', String(ids.cancelled));
  ids.many = db.lines(Array.from({length: 130}, (_, i) => ({type: 'search.index', queue: 'index', payload: {page: i}})));
  db.nanoq('limit', '--rate', '100/m', '--running', '4', 'images');
  db.nanoq('pause', 'index', '--why', 'the index is being rebuilt');
  db.nanoq('cron', 'add', 'nightly', '30 2 * * *', 'report.monthly', '{}', '--zone', 'Europe/Berlin', '--queue', 'reports');
  db.nanoq('cron', 'add', 'often', '@every 1h', 'search.index', '{"all":true}');
  return ids;
}

let browser = null;
export async function launch() {
  browser ??= await chromium.launch({executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']});
  return browser;
}

// A page that remembers all that should not be: errors, what the console says, refused content, dialogs.
export async function open(url, options = {}) {
  const context = await (await launch()).newContext({viewport: {width: 1280, height: 800}, timezoneId: 'Europe/Berlin', ...options});
  const page = await context.newPage();
  const faults = [];
  page.faults = faults;
  page.on('pageerror', (e) => faults.push(`error: ${e.message}`));
  page.on('console', (m) => {
    if (['error', 'warning'].includes(m.type())) faults.push(`console: ${m.text()}`);
  });
  page.on('dialog', (d) => {
    faults.push(`dialog: ${d.message()}`);
    d.dismiss();
  });
  page.on('request', (r) => {
    if (!r.url().startsWith(url) && !r.url().startsWith('data:')) faults.push(`request: ${r.url()}`);
  });
  await page.addInitScript(() => {
    window.violations = [];
    window.shown = location.hash; // the address whose view is there: on a busy machine it comes some time after the address
    addEventListener('hashchange', () => (window.shown = location.hash));
    document.addEventListener('securitypolicyviolation', (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
  });
  page.at = async (hash) => {
    await page.goto(url + hash);
    await page.waitForSelector('main h1');
    await settled(page);
  };
  page.url0 = url;
  return page;
}

// The view of the address is there, and nothing is loading any more.
export async function settled(page) {
  await page.waitForFunction(() => window.shown === location.hash && !document.querySelector('.loading') && document.querySelector('main h1'), null, {timeout: 30000});
}

export async function clean(page, allowed = () => false) {
  const violations = await page.evaluate(() => window.violations);
  assert.deepEqual(violations, []);
  assert.deepEqual(page.faults.filter((f) => !allowed(f) && !f.includes('status of 501')), []);
}

// What axe finds, with where.
export async function axe(page) {
  await page.evaluate(AXE);
  const found = await page.evaluate(() => window.axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}));
  return found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => `${n.target.join(' ')} ${n.any?.[0]?.message ?? ''}`).join(' | ')}`);
}

export async function end() {
  await browser?.close();
  browser = null;
  await Promise.all([...children].map(stop));
  for (const dir of dirs) fs.rmSync(dir, {recursive: true, force: true});
}
