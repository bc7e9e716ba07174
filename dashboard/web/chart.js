// SPDX-License-Identifier: MIT
// Charts over time, by uPlot; what they show is in a table beneath them too, for who cannot see them.
import uPlot from './uplot.js';
import {fill, h} from './dom.js';

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Bars drawn by ourselves as paths: uPlot.paths.bars.
function pathsOf(kind) {
  return kind === 'bars' ? uPlot.paths.bars({size: [0.8, 24], align: 0}) : kind === 'steps' ? uPlot.paths.stepped({align: 1}) : uPlot.paths.linear();
}

// series: [{label, color: '--name', kind: 'line'|'bars'|'steps', fill}], format: (value) => text
export function chart(title, series, format, options = {}) {
  const legend = h('ul', {class: 'legend'}, series.map((s) => h('li', null, h('span', {class: `swatch ${s.swatch}`, 'aria-hidden': 'true'}), `${s.label} `, h('b', {dataset: {series: s.label}}))));
  const box = h('div', {class: 'plot', role: 'img'});
  const body = h('tbody');
  const columns = h('tr', null, h('th', {scope: 'col'}, 'Time'), series.map((s) => h('th', {scope: 'col', class: 'right'}, s.label)));
  const details = h('details', {class: 'data'}, h('summary', null, 'As a table'), h('div', {class: 'scroll', role: 'region', tabindex: '0', 'aria-label': `${title}, as a table`}, h('table', null, h('caption', {class: 'unseen'}, title), h('thead', null, columns), body)));
  const root = h('figure', {class: 'card chart'}, h('figcaption', null, h('h2', null, title), legend), box, details);
  let plot = null;
  let data = [[], ...series.map(() => [])];
  let rangeOf = null;

  function values(at) {
    series.forEach((s, i) => {
      const line = data[i + 1];
      const last = at ?? line.findLastIndex((v) => v !== null);
      legend.children[i].querySelector('b').textContent = line.length > 0 && line[last] !== null && line[last] !== undefined ? format(line[last]) : '–';
    });
  }
  function size() {
    return {width: Math.max(120, box.clientWidth), height: options.height ?? 150};
  }
  function make() {
    plot?.destroy();
    const axis = color('--muted');
    const grid = {stroke: color('--line'), width: 1};
    const font = '11px system-ui, sans-serif';
    plot = new uPlot({
      ...size(),
      padding: [8, 8, 0, 0],
      legend: {show: false},
      cursor: {drag: {x: false, y: false}, y: false, points: {size: 6}},
      select: {show: false},
      scales: {x: {time: true, range: (u, min, max) => rangeOf ?? [min, max]}, y: {range: (u, min, max) => [0, Math.max(options.least ?? 1, max * 1.1 || 0)]}},
      axes: [
        {stroke: axis, font, grid: {show: false}, ticks: {...grid, size: 4}, size: 26, values: (u, splits) => splits.map((t) => clockOf(t))},
        {stroke: axis, font, grid, ticks: {show: false}, size: 52, values: (u, splits) => splits.map(options.axis ?? format), space: 34},
      ],
      series: [{}, ...series.map((s) => ({
        label: s.label,
        stroke: color(s.color),
        width: s.kind === 'bars' ? 0 : 1.6,
        fill: s.fill ? `color-mix(in srgb, ${color(s.color)} ${s.kind === 'bars' ? 85 : 14}%, transparent)` : undefined,
        paths: pathsOf(s.kind),
        // A value with none beside it, of which a line shows nothing.
        points: {show: s.kind !== 'bars', size: 5, filter: (u, i) => u.data[i].flatMap((v, at, all) => (v !== null && (all[at - 1] ?? null) === null && (all[at + 1] ?? null) === null ? [at] : []))},
        spanGaps: false,
      }))],
      hooks: {setCursor: [(u) => values(u.cursor.idx)]},
    }, data, box);
    values(null);
  }
  function clockOf(t) {
    const d = new Date(t * 1000);
    return `${String(d.getHours()).padStart(2, '0')}:${String(d.getMinutes()).padStart(2, '0')}`;
  }
  const observer = new ResizeObserver(() => plot?.setSize(size()));
  observer.observe(box);
  const rethemed = () => plot && make();
  document.addEventListener('themechange', rethemed);

  return {
    root,
    // columns: [times in seconds, values of each series]; range: [from, until] in seconds
    update(columns, range, summary) {
      data = columns;
      rangeOf = range;
      box.setAttribute('aria-label', `${title}: ${summary}`);
      if (plot) {
        plot.setData(data);
        values(null);
      } else if (box.isConnected) {
        make();
      }
      if (details.open) tabulate();
    },
    destroy() {
      observer.disconnect();
      document.removeEventListener('themechange', rethemed);
      plot?.destroy();
    },
  };
  function tabulate() {
    fill(body, data[0].map((t, i) => h('tr', null, h('th', {scope: 'row'}, clockOf(t)), series.map((s, k) => h('td', {class: 'right'}, data[k + 1][i] === null || data[k + 1][i] === undefined ? '–' : format(data[k + 1][i]))))).reverse());
  }
  details.addEventListener('toggle', () => details.open && tabulate());
}
